"""A server with an engine that has closed all ends, without taking its interpreter down."""

import os
import signal
import subprocess
import sys
from pathlib import Path

from tests.processes import Process, logged
from tests.servers import WAIT_SECONDS, eventually

PROGRAM = """
import atexit, os, sys
atexit.register(os.mkdir, os.environ["TAKEN_DOWN"])
from target_server.__main__ import main
main()
"""


def started(folder: Path) -> Process:
    log = folder / "log"
    flags = [f"--socket={folder / 'socket'}", "--health-port=0", "--metrics-port=0"]
    command = [sys.executable, "-c", PROGRAM, "--model=simulated", *flags, "--host=127.0.0.1"]
    env = {**os.environ, "TAKEN_DOWN": str(folder / "taken down")}
    with log.open("wb") as output:
        return Process("", subprocess.Popen(command, stderr=output, env=env), log)


async def test_one_that_has_closed_all_ends_at_once(tmp_path: Path) -> None:
    process = started(tmp_path)
    try:
        await eventually(lambda: logged(process, '"ready"'))
        process.signal(signal.SIGTERM)
        assert process.popen.wait(WAIT_SECONDS) == 0
    finally:
        process.popen.kill()
        process.popen.wait()
    assert '"draining"' in process.lines()
    assert not (tmp_path / "taken down").exists()
