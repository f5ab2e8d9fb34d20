#!/usr/bin/env bash
# grpcio 1.85.3: grpc.keepalive_timeout_ms does not say how long an answer to a keepalive ping is waited
# for. A peer that reads nothing more, while TCP still takes what is sent, is missed after a minute with
# keepalive_time_ms and keepalive_timeout_ms at a second each. grpc.http2.ping_timeout_ms is what counts:
# with that at a second, too, it takes two.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet grpcio==1.85.3
cat > "$work/try.py" <<'PY'
import os
import socket
import threading
import time
from concurrent import futures

import grpc

SETTINGS = {
    "keepalive_timeout_ms": [],
    "and ping_timeout_ms": [("grpc.http2.ping_timeout_ms", 1000)],
}


def never(request, context):
    threading.Event().wait()


class Handlers(grpc.GenericRpcHandler):
    def service(self, details):
        return grpc.unary_unary_rpc_method_handler(never)


def falls_silent(port):
    """A proxy that takes what comes, and passes nothing on once it is told to."""
    listening, silent = socket.create_server(("127.0.0.1", 0)), threading.Event()

    def pump(source, sink):
        while data := source.recv(65536):
            if not silent.is_set():
                sink.sendall(data)

    def accept():
        while True:
            near, _ = listening.accept()
            far = socket.create_connection(("127.0.0.1", port))
            for ends in ((near, far), (far, near)):
                threading.Thread(target=pump, args=ends, daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    return listening.getsockname()[1], silent


def seconds(port, settings):
    """How long a call is left hanging."""
    at, silent = falls_silent(port)
    options = [("grpc.keepalive_time_ms", 1000), ("grpc.keepalive_timeout_ms", 1000), *settings]
    with grpc.insecure_channel(f"127.0.0.1:{at}", options=options) as channel:
        call = channel.unary_unary("/a/b").future(b"", timeout=100)
        time.sleep(0.5)
        silent.set()
        started = time.monotonic()
        error = call.exception()
        took = time.monotonic() - started
        return f"{error.code().name} after {'less than 10' if took < 10 else 'more than 50' if took > 50 else took} s"


server = grpc.server(futures.ThreadPoolExecutor(4), handlers=[Handlers()])
port = server.add_insecure_port("127.0.0.1:0")
server.start()
with futures.ThreadPoolExecutor() as pool:
    found = pool.map(lambda settings: seconds(port, settings), SETTINGS.values())
    for name, said in zip(SETTINGS, found):
        print(f"{name}: {said}", flush=True)
os._exit(0)  # the handlers never end
PY
"$work/venv/bin/python" "$work/try.py" 2> /dev/null | tee "$work/out"
diff "$work/out" - <<'OUT'
keepalive_timeout_ms: UNAVAILABLE after more than 50 s
and ping_timeout_ms: UNAVAILABLE after less than 10 s
OUT
