#!/usr/bin/env bash
# huggingface_hub 2.4.0: a download that was interrupted is not resumed by the next one, as in 0.36.2.
# Each process writes to a file of a name of its own and deletes it when it fails; killed, it leaves
# the file, and the next process does not look for it. Of a model in one file of 15 GB, the 14 that
# came are fetched again. Within a process it does resume: after a broken connection it asks for the
# rest by a Range header. Tried over plain HTTP, as mirrors speak it; large files of the hub itself
# come by hf_xet, which was not tried.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
for version in 0.36.2 2.4.0; do
    python3 -m venv "$work/$version"
    "$work/$version/bin/pip" install --quiet huggingface_hub==$version
done
cat > "$work/try.py" <<'PY'
import os
import shutil
import subprocess
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

SIZE = 64 * 2**20
asked, sent = [], threading.Event()
stalls = breaks = False


class Hub(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *arguments):
        pass

    def do_HEAD(self):
        self.answer(0)

    def do_GET(self):
        global breaks
        if "/resolve/" not in self.path:
            self.send_error(404)
            return
        asked.append(self.headers.get("Range"))
        start = int((asked[-1] or "bytes=0-")[6:].split("-")[0])
        self.answer(start)
        half = SIZE // 2
        self.wfile.write(bytes(half if stalls or breaks else SIZE - start))
        sent.set()
        if stalls:
            time.sleep(60)
        if breaks:
            breaks = False
            self.close_connection = True

    def answer(self, start):
        self.send_response(206 if start else 200)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{SIZE - 1}/{SIZE}")
        self.send_header("ETag", '"' + "a" * 64 + '"')
        self.send_header("X-Repo-Commit", "b" * 40)
        self.send_header("Content-Length", str(SIZE - start))
        self.end_headers()


server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
threading.Thread(target=server.serve_forever, daemon=True).start()
work, version = sys.argv[1:]
home = f"{work}/home-{version}"
get = "from huggingface_hub import hf_hub_download as get; get('us/model', 'model.safetensors')"
command = [f"{work}/{version}/bin/python", "-c", get]
environment = {
    **os.environ, "HF_ENDPOINT": f"http://127.0.0.1:{server.server_port}", "HF_HOME": home,
}


def start():
    return subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL)


def part_is_written():
    sizes = [os.path.getsize(os.path.join(at, name)) for at, _, names in os.walk(home)
             for name in names if name.endswith(".incomplete")]
    return any(size >= 20 * 2**20 for size in sizes)


def kind(one):
    return "from the beginning" if one is None else "from the middle"


stalls = True
killed = start()
sent.wait(60)
while not part_is_written():
    time.sleep(0.1)
killed.kill()
killed.wait()
stalls = False
assert start().wait() == 0
print(version, "killed, and begun again:", kind(asked[-1]))
if version.startswith("2."):
    shutil.rmtree(home)
    breaks = True
    assert start().wait() == 0
    print(version, "connection broken:", kind(asked[-1]))
PY
for version in 0.36.2 2.4.0; do
    python3 "$work/try.py" "$work" $version
done | tee "$work/out"
diff "$work/out" - <<'OUT'
0.36.2 killed, and begun again: from the middle
2.4.0 killed, and begun again: from the beginning
2.4.0 connection broken: from the middle
OUT
