"""The real smg gateway, in front of orchestrators that run as processes of their own."""

import contextlib
import json
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from paceline.addresses import join

HOST = "127.0.0.1"
READY_SECONDS, ASK_SECONDS = 240.0, 0.1


@dataclass
class Orchestrator:
    """One that listens on a port, as a gateway speaks to no socket."""

    popen: subprocess.Popen[bytes]
    port: int

    @property
    def address(self) -> str:
        """Of its door for gateways and of our own."""
        return join(HOST, self.port)


def free_port() -> int:
    """One that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return int(probe.getsockname()[1])


@contextlib.contextmanager
def ended(*processes: subprocess.Popen[bytes]) -> Iterator[None]:
    """Kills them, when the context is left."""
    try:
        yield
    finally:
        for process in processes:
            process.kill()
        for process in processes:
            process.wait()


@contextlib.contextmanager
def orchestrator(
    folder: Path, name: str, targets: Sequence[str], drafts: Sequence[str], *flags: str
) -> Iterator[Orchestrator]:
    """One over these addresses."""
    port = free_port()
    command = [sys.executable, "-m", "orchestrator", f"--port={port}", f"--host={HOST}"]
    command += [f"--target={','.join(targets)}", f"--draft={','.join(drafts)}"]
    command += ["--health-port=0", "--metrics-port=0", *flags]
    with (folder / f"{name}.log").open("wb") as output:
        popen = subprocess.Popen(command, stderr=output, start_new_session=True)
    with ended(popen):
        yield Orchestrator(popen, port)


@contextlib.contextmanager
def gateway(folder: Path, name: str, orchestrators: Sequence[Orchestrator]) -> Iterator[str]:
    """smg in front of them, ready; gives its OpenAI address."""
    port, metrics = free_port(), free_port()
    command = [
        *(sys.executable, "-m", "smg", "launch", "--host", HOST, "--port", str(port)),
        *("--prometheus-host", HOST, "--prometheus-port", str(metrics)),
        *("--worker-urls", *(f"grpc://{one.address}" for one in orchestrators)),
        *("--policy", "round_robin", "--worker-startup-check-interval", "1"),
        *("--health-check-interval-secs", "2", "--health-success-threshold", "1"),
        *("--load-monitor-interval", "2", "--shutdown-grace-period-secs", "1"),
        *("--tool-call-parser", "qwen", "--reasoning-parser", "qwen3"),  # of no model's own name
    ]
    log = folder / f"{name}.log"
    with log.open("wb") as output:
        popen = subprocess.Popen(command, stdout=output, stderr=output, start_new_session=True)
    with ended(popen):
        until_ready(port, [*(one.popen for one in orchestrators), popen], log)
        yield f"http://{join(HOST, port)}/v1"


def until_ready(port: int, processes: Sequence[subprocess.Popen[bytes]], log: Path) -> None:
    """Wait until all workers are healthy, and the tokenizer is there, which comes behind them.

    Asserts that all processes live.
    """
    count, end = len(processes) - 1, time.monotonic() + READY_SECONDS
    while healthy(port) < count or not listed(port, "v1/tokenizers", "tokenizers"):
        assert all(one.poll() is None for one in processes), log.read_text()
        assert time.monotonic() < end, log.read_text()
        time.sleep(ASK_SECONDS)


def healthy(port: int) -> int:
    """How many workers the gateway at a port takes for healthy."""
    return sum(bool(one["is_healthy"]) for one in listed(port, "workers", "workers"))


def listed(port: int, path: str, field: str) -> list[dict[str, Any]]:
    """What the gateway at a port lists; nothing while it does not answer."""
    try:
        with urllib.request.urlopen(f"http://{join(HOST, port)}/{path}", timeout=5) as answer:
            return list(json.load(answer)[field])
    except (OSError, ValueError, KeyError):
        return []
