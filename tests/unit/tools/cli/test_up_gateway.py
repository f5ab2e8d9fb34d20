"""The gateway's log lines, in the form of our servers'."""

import json

from paceline_tools.cli.up_gateway import _event

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
