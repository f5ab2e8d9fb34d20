"""docs/logs.md has every event that the code logs, with its levels and fields, and no others."""

import ast
import io
import re
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path

import pytest
import structlog

from paceline import log
from paceline.protocol.generation import GenerateRequest, Speculation, Statistics
from tests import servers
from tests.unit.test_house import FILES, ROOT

PAGE = (ROOT / "docs" / "logs.md").read_text()
LEVEL_OF = {"exception": "error"}
LEVELS = {"debug", "info", "warning", "error", "critical", *LEVEL_OF}
PRINTED = ("printed", "warning", {"text"})
"""By paceline/raw_output.py, which imports nothing of ours."""
_ROW = re.compile(r"^\| (.+?) \|$", re.MULTILINE)


def calls(path: Path) -> Iterator[tuple[str, str, set[str]]]:
    """Event, level and fields of each log line that a file writes."""
    for node in ast.walk(ast.parse(path.read_text())):
        if not isinstance(node, ast.Call):
            continue
        names = {one.arg or f"**{ast.unparse(one.value)}" for one in node.keywords}
        if isinstance(node.func, ast.Attribute) and ast.unparse(node.func.value) == "_log":
            level = node.func.attr
            assert level in LEVELS, f"{path}:{node.lineno}"
            if level == "exception" or "exc_info" in names:
                names = (names | {"exception"}) - {"exc_info"}
            yield _text(node.args[0], path), LEVEL_OF.get(level, level), names
        elif ast.unparse(node.func) == "line" and path.parent.name != "page":
            yield _text(node.args[0], path), _text(node.args[1], path), names


def _text(node: ast.expr, path: Path) -> str:
    assert isinstance(node, ast.Constant), f"{path}:{node.lineno}: an event has always one name"
    return str(node.value)


def pacing_numbers() -> set[str]:
    """The names that pacers explain themselves with."""
    folder = ROOT / "orchestrator" / "speculation" / "pacing"
    return {name for path in folder.glob("*.py") for name in _explained(path)}


def _explained(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.FunctionDef) and node.name == "explain":
            tables = (one for one in ast.walk(node) if isinstance(one, ast.Dict))
            keys = (key for one in tables for key in one.keys)
            yield from (str(key.value) for key in keys if isinstance(key, ast.Constant))


def logged() -> dict[str, tuple[set[str], set[str]]]:
    """Levels and fields of each event in the code."""
    levels, names = defaultdict[str, set[str]](set), defaultdict[str, set[str]](set)
    found = [one for path in FILES if "paceline_tools" not in path.parts for one in calls(path)]
    for event, level, some in [*found, PRINTED]:
        levels[event].add(level)
        names[event] |= some
    for event, dynamic, known in (
        ("stream paced", "**explained.numbers", pacing_numbers()),
        (
            "stream finished",
            "**dataclasses.asdict(stream.statistics.result())",
            {one.name for one in fields(Statistics)},
        ),
    ):
        names[event].remove(dynamic)
        names[event] |= known
    return {event: (levels[event], names[event]) for event in levels}


def documented() -> dict[str, tuple[set[str], set[str]]]:
    """What the page says of each event."""
    found = {}
    for row in _ROW.findall(PAGE):
        cells = [cell.strip() for cell in row.split("|")]
        if len(cells) == 4 and cells[0].startswith("`"):
            event, levels, names, _ = cells
            name = event.strip("`")
            some = _section(name) if names == "below" else set(re.findall(r"`(.+?)`", names))
            found[name] = (set(levels.split(", ")), some)
    return found


def _section(event: str) -> set[str]:
    """The fields in the table behind the heading of an event."""
    _, _, rest = PAGE.partition(f"\n### `{event}`\n")
    rows = [row.split(" | ")[0] for row in _ROW.findall(rest.partition("\n#")[0])]
    return {name for row in rows for name in re.findall(r"`(.+?)`", row)}


def test_every_event_has_its_levels_and_fields_on_the_page() -> None:
    code, page = logged(), documented()
    assert len(code) > 50
    assert page.keys() == code.keys()
    for event in code:
        assert page[event] == code[event], event


async def test_the_lines_of_a_stream_have_the_fields_that_the_page_says() -> None:
    page = documented()
    with structlog.testing.capture_logs() as lines:
        async with (
            servers.target("simulated:step_ms=2") as target,
            servers.draft("simulated:step_ms=1", drafter="model") as draft,
            servers.orchestrator([target.address], [draft.address]) as client,
        ):
            for speculation in (Speculation.AUTO, Speculation.FORCE):
                asked = GenerateRequest("a", max_tokens=20, speculation=speculation)
                await client.generate(asked).result()
    seen = defaultdict[str, set[str]](set)
    for line in lines:
        seen[line["event"]] |= line.keys() - {"event", "log_level"}
    assert {"stream finished", "stream paced", "server found", "session opened"} <= seen.keys()
    for event, names in seen.items():
        assert names <= page[event][1], event
    assert seen["stream finished"] == page["stream finished"][1]


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(
    ("stream", "no_color", "colored"),
    [(Terminal(), "", True), (Terminal(), "1", False), (io.StringIO(), "", False)],
)
def test_lines_for_people_have_colors_on_a_terminal_only(
    stream: io.StringIO, no_color: str, colored: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NO_COLOR", no_color)
    assert log.has_colors(stream) == colored
