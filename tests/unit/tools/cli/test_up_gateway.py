"""The gateway's log lines, in the form of our servers'."""

import asyncio
import io
import json
import sys

import pytest
from rich.console import Console

from paceline.errors import Unavailable
from paceline_tools.cli.up_gateway import Gateway, _event
from paceline_tools.local_servers import Process
from paceline_tools.server_log import ServerLog

SAID = {
    "timestamp": "2026-11-28 12:54:59",
    "level": "WARN",
    "message": "Step failed",
    "step_id": "detect",
    "target": "smg::worker",
    "filename": "worker.rs",
    "line_number": 3,
}


def test_a_line_of_the_gateway_has_what_every_line_has() -> None:
    assert json.loads(_event(json.dumps(SAID))) == {
        "event": "Step failed",
        "level": "warning",
        "logger": "smg::worker",
        "timestamp": "2026-11-28T12:54:59Z",
        "step_id": "detect",
    }


def test_what_is_no_event_stays_as_it_was_printed() -> None:
    for line in ("Traceback (most recent call last):", "[1]", '{"level": "INFO"}', "null"):
        assert _event(line) == line


PRINTS = """
print("\\u28ff\u2803   listening  127.0.0.1:8070")
print('{"level": "WARN", "message": "SECURITY POSTURE"}')
print("it fails")
raise SystemExit(3)
"""


async def test_people_see_nothing_of_a_gateway_that_does_not_serve_but_how_it_ended() -> None:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", PRINTS),
        stdout=asyncio.subprocess.PIPE,
        env={"PYTHONIOENCODING": "utf-8"},
    )
    gateway, shown = Gateway(process, "127.0.0.1", 8070), io.StringIO()
    await gateway.follow(ServerLog(Console(file=shown), "console"))
    assert shown.getvalue() == ""
    with pytest.raises(Unavailable) as raised:
        await gateway.died()
    assert str(raised.value) == (
        "the gateway exited with 3; its last words:\n"
        '  {"level": "WARN", "message": "SECURITY POSTURE"}\n'
        "  it fails"
    )


async def test_a_port_taken_since_it_was_chosen_is_told_with_what_helps() -> None:
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", "")
    target = Process("target", process, ServerLog(Console(file=io.StringIO()), "none"))
    taken = "cannot listen on 127.0.0.1:7271: another process does; end it, or "
    target.reason = f"{taken}choose another --metrics-port (PACELINE_TARGET_METRICS_PORT)"
    assert target._how(await process.wait()) == (
        f"the target stopped: {taken}run this again, which takes ports that are free"
    )
