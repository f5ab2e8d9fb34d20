"""Where JSON is asked for, each line of a server is an object, however it ends."""

import json
import os
import signal
import subprocess
import sys
from typing import Any

import pytest

from paceline.raw_output import as_json

PROGRAM = """
import ctypes, faulthandler, logging, os, sys, threading, warnings
from orchestrator.settings import OrchestratorSettings
from paceline.rpc.server import run_process
from paceline.settings import parse

class Native:
    def __del__(self):
        raise ValueError("unraisable")

def fail():
    raise ValueError("in a thread")

async def load(registry):
    warnings.warn("a warning of a library")
    logging.getLogger("some.library").warning("logged by a library")
    print("printed by a library")
    print("printed to standard error", file=sys.stderr)
    os.write(2, b"written by native code\\n")
    Native()
    thread = threading.Thread(target=fail, name="worker")
    thread.start()
    thread.join()
    {end}
    raise ValueError("the end")

run_process(parse(OrchestratorSettings), (), load, public=True)
"""
FLAGS = ["--target=unix:/nowhere", "--port=0", "--health-port=0", "--metrics-port=0"]


def run(*flags: str, end: str = "pass", **environment: str) -> tuple[int, list[dict[str, Any]]]:
    """A server to its end: its status, and each line of its streams."""
    command = [sys.executable, "-c", PROGRAM.format(end=end), "--host=127.0.0.1", *FLAGS, *flags]
    process = subprocess.run(
        command,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env={**os.environ, **environment},
    )
    lines = [*process.stdout.splitlines(), *process.stderr.splitlines()]
    return process.returncode, [json.loads(line) for line in lines]


def test_whoever_prints_prints_json() -> None:
    status, lines = run()
    assert status == 1
    assert all(isinstance(line, dict) and "event" in line and "level" in line for line in lines)
    printed = {line["text"] for line in lines if line["event"] == "printed"}
    assert printed == {
        "printed by a library",
        "printed to standard error",
        "written by native code",
    }
    events = [line["event"] for line in lines]
    assert {"a warning", "logged by a library", "stopped"} <= set(events)
    where = [line["where"] for line in lines if line["event"] == "failed, and nobody caught it"]
    assert where == ["unraisable", "worker"]


@pytest.mark.parametrize(
    ("end", "number"),
    [
        ("os.write(2, b'last words\\n'); os.abort()", signal.SIGABRT),
        ("os.write(2, b'last words\\n'); ctypes.string_at(0)", signal.SIGSEGV),
    ],
)
def test_so_are_the_last_words_of_one_that_crashes(end: str, number: signal.Signals) -> None:
    status, lines = run(end=end, PYTHONFAULTHANDLER="1")
    assert status == -number
    printed = [line["text"] for line in lines if line["event"] == "printed"]
    assert "last words" in printed
    assert any(line.startswith("Fatal Python error") for line in printed)


def test_bad_settings_are_json_too() -> None:
    assert run("--prt=1") == (
        2,
        [lines_of("unknown flag --prt; did you mean --port?")],
    )
    bad = "PACELINE_ORCHESTRATOR_LOOKAHEAD"
    said = f"--lookahead is 'x' (of {bad}); it must be a whole number from 0 to 256"
    assert run(**{bad: "x"}) == (2, [lines_of(said)])


def lines_of(reason: str) -> Any:
    class Line:
        """Equal to a log line that gives the reason."""

        def __eq__(self, other: object) -> bool:
            assert isinstance(other, dict)
            return (other["event"], other["level"], other["reason"]) == (
                "bad setting",
                "error",
                reason,
            )

        __hash__ = None  # type: ignore[assignment]

    return Line()


def test_for_people_they_are_not() -> None:
    command = [sys.executable, "-m", "orchestrator", "--log-format=console", "--port=x"]
    process = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert process.returncode == 2
    said = "--port is 'x'; it must be a whole number from 0 to 65535\n"
    assert (process.stdout, process.stderr) == ("", said)


def test_a_misspelt_variable_is_a_warning_at_start() -> None:
    status, lines = run(PACELINE_ORCHESTRATOR_DRAFT_LENGHT="3", PACELINE_TARGET_X="1")
    assert status == 1
    [warning] = [line for line in lines if line["event"] == "unknown variable"]
    assert (warning["level"], warning["name"]) == ("warning", "PACELINE_ORCHESTRATOR_DRAFT_LENGHT")
    assert warning["reason"] == (
        "the environment has PACELINE_ORCHESTRATOR_DRAFT_LENGHT, which is no setting; "
        "PACELINE_ORCHESTRATOR_DRAFT_LENGTH may be meant"
    )


def test_lines_that_are_json_stay_as_they_are() -> None:
    assert list(as_json(iter([b'{"event": "x"}\n', b"\n", b"  \n"]))) == [b'{"event": "x"}\n']
    [line] = as_json(iter([b'{"half\xff\n']))
    assert json.loads(line)["text"] == '{"half\\xff'
