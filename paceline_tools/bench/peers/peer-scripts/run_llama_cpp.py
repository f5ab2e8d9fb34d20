"""llama.cpp's server as it is, to be compared with: llama-server, as the PATH has it, and GGUF."""

import argparse
import contextlib
import http.client
import json
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from functools import partial

from answering import CONTEXT, DRAFT_TOKENS, Answer, serve

READY_SECONDS = 300.0


@contextlib.contextmanager
def loaded(options: argparse.Namespace) -> Iterator[Answer]:
    """A server that has loaded its models."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [
        *("llama-server", "--model", options.target, "--port", str(port), "--parallel", "1"),
        *("--threads", str(options.threads), "--ctx-size", str(CONTEXT), "--no-ui"),
    ]
    if options.mode == "draft":
        command += ["--model-draft", options.draft, "--spec-draft-n-max", str(DRAFT_TOKENS)]
    # What a user of that command would run, and no shell.
    process = subprocess.Popen(command, stdout=sys.stderr)
    try:
        _wait(process, port)
        yield partial(_answer, port)
    finally:
        process.kill()
        process.wait()


def _wait(process: "subprocess.Popen[bytes]", port: int) -> None:
    deadline = time.monotonic() + READY_SECONDS
    while time.monotonic() < deadline:
        if process.poll() is not None:
            sys.exit(f"llama-server ended with {process.returncode}")
        with contextlib.suppress(OSError):
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
            connection.request("GET", "/health")
            if connection.getresponse().status == http.HTTPStatus.OK:
                return
        time.sleep(0.2)
    sys.exit(f"llama-server was not ready within {READY_SECONDS:g} s")


def _answer(port: int, ids: list[int], count: int) -> tuple[list[int], list[float]]:
    body = {
        "prompt": ids,
        "n_predict": count,
        "temperature": 0,
        "ignore_eos": True,
        "cache_prompt": False,
        "return_tokens": True,
        "stream": True,
    }
    tokens: list[int] = []
    seconds: list[float] = []
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=600)
    started = time.perf_counter()
    connection.request("POST", "/completion", json.dumps(body))
    for line in connection.getresponse():
        if not line.startswith(b"data: ") or (event := json.loads(line[6:])).get("stop"):
            continue
        tokens += event["tokens"]
        seconds += [time.perf_counter() - started] * len(event["tokens"])
    return tokens, seconds


if __name__ == "__main__":
    serve(__doc__ or "", ("alone", "draft"), loaded)
