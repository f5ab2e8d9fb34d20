"""Lines of servers, for people and for machines."""

import io
import json
import re
from typing import Any

import pytest
from rich.console import Console

from paceline_tools.server_log import Form, ServerLog

STYLES = re.compile(r"\x1b\[[0-9;?]*[a-zA-Z]")
FOUND = {
    "event": "server found",
    "level": "info",
    "logger": "orchestrator.backends.replica",
    "timestamp": "2026-01-02T03:04:05.678Z",
    "address": "unix:/tmp/x/1",
    "model": "small",
}


def log(width: int, form: Form = "console", *, terminal: bool = True) -> tuple[ServerLog, Any]:
    written = io.StringIO()
    console = Console(file=written, width=width, force_terminal=terminal, emoji=False)
    made = ServerLog(console, form)
    made.addresses = {"unix:/tmp/x/1": "target"}
    return made, written


def shown(written: io.StringIO) -> list[str]:
    return [STYLES.sub("", line).rstrip() for line in written.getvalue().splitlines()]


@pytest.mark.parametrize("width", [80, 120])
def test_a_line_names_its_server_and_leaves_out_what_is_for_machines(width: int) -> None:
    made, written = log(width)
    made.server_line("orchestrator", json.dumps(FOUND))
    [line] = shown(written)
    assert re.fullmatch(
        r"\d\d:\d\d:\d\d orchestrator server found  address=target  model=small", line
    )


@pytest.mark.parametrize("width", [80, 120])
def test_a_long_line_goes_on_below_its_text_and_no_word_is_cut(width: int) -> None:
    made, written = log(width)
    reason = " ".join(["words"] * 40)
    made.server_line(
        "draft small", json.dumps({"event": "x", "level": "warning", "reason": reason})
    )
    lines = shown(written)
    assert len(lines) > 1
    assert all(len(line) <= width for line in lines)
    assert all(line.startswith(" " * 22) for line in lines[1:])
    assert " ".join(lines).count("words") == 40


def test_what_is_no_json_is_shown_as_it_was_printed() -> None:
    made, written = log(80)
    made.server_line("target", "[b]Killed[/b]\x1b[2J")
    assert shown(written)[0].endswith("target       printed  text=[b]Killed[/b]␛[2J")


def test_what_the_command_says_itself_is_not_said_twice() -> None:
    made, written = log(80)
    for event in ("listening", "stopped", "unknown variable", "not ready"):
        made.server_line("target", json.dumps({"event": event}))
    assert shown(written) == []
    made.serving = True
    made.server_line("target", json.dumps({"event": "not ready"}))
    assert len(shown(written)) == 1


@pytest.mark.parametrize("width", [80, 120])
def test_loading_is_a_bar_on_a_terminal_and_lines_elsewhere(width: int) -> None:
    event = {"event": "loading", "step": "reading weights", "done": 3, "total": 12, "unit": "parts"}
    made, written = log(width)
    made.server_line("target", json.dumps(event))
    made.close()
    assert any("3 of 12 parts" in line for line in shown(written))
    assert all(len(line) <= width for line in shown(written))
    made, written = log(width, terminal=False)
    made.server_line("target", json.dumps(event))
    told = " ".join(" ".join(shown(written)).split())
    assert told.endswith("target loading step=reading weights done=3 total=12 unit=parts")


def test_bytes_are_shown_in_gigabytes() -> None:
    made, written = log(80)
    event = {"event": "loading", "step": "fetching", "done": 10**9, "total": 3 * 10**9}
    made.server_line("target", json.dumps({**event, "unit": "bytes"}))
    made.close()
    assert any("1.00 of 3.00 GB" in line for line in shown(written))


def test_for_machines_each_line_is_an_object_with_its_server(
    capsys: pytest.CaptureFixture[str],
) -> None:
    made, _ = log(80, "json")
    made.server_line("target", json.dumps(FOUND))
    made.server_line("target", "printed")
    made.say("ready", level="warning")
    lines = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    assert lines[0] == {"server": "target", **FOUND}
    assert (lines[1]["event"], lines[1]["text"]) == ("printed", "printed")
    assert (lines[2]["server"], lines[2]["event"], lines[2]["level"]) == ("up", "ready", "warning")


@pytest.mark.parametrize("quiet", [True, False])
def test_what_each_stream_logs_is_for_who_asks(quiet: bool) -> None:
    written = io.StringIO()
    made = ServerLog(Console(file=written, width=80), "console", quiet=quiet)
    for event in ("stream paced", "stream finished", "draining"):
        made.server_line("orchestrator", json.dumps({"event": event, "level": "info"}))
    lines = shown(written)
    assert len(lines) == (1 if quiet else 3)
    assert "draining" in lines[-1]


def test_what_grpc_reports_of_no_fault_is_left_out_for_people() -> None:
    made, written = log(120)
    said = "I1128 15:06:08.163664 24312 x.cc:1] goaway", "E1128 15:06:08.1 2 x.cc:1] refused"
    for text in said:
        made.server_line("target", json.dumps({"event": "printed", "text": text}))
    [line] = shown(written)
    assert "E1128" in line
