"""The pages on the client and on errors say what is so."""

import asyncio
import inspect
import re
from pathlib import Path

import pytest

from paceline import errors
from paceline.client import retry
from paceline.client.client import CALL_SECONDS, RETRIES
from paceline.rpc.deadline import DEFAULT_SECONDS, LONGEST_SECONDS
from paceline.rpc.status_codes import code_of
from tests import servers

DOCS = Path(__file__).parents[2] / "docs"
PAGE = (DOCS / "errors.md").read_text()
ROW = re.compile(r"^\| `(\w+)` \| ([A-Z_]+)[^|]*\|.*\| (.*) \|$", re.MULTILINE)
ROWS = {name: row for name, *row in ROW.findall(PAGE)}


def test_every_error_is_there_with_its_code_and_whether_it_is_tried_again() -> None:
    kinds: dict[str, type[errors.PacelineError]] = {
        name: kind
        for name, kind in vars(errors).items()
        if inspect.isclass(kind)
        and issubclass(kind, errors.PacelineError)
        and kind is not errors.PacelineError
    }
    assert set(ROWS) == set(kinds)
    for name, (code, again) in ROWS.items():
        assert code_of(kinds[name]("said")).name == code
        passes = retry._least_pause(kinds[name]("said")) is not None
        assert (again != "no") == passes


def test_the_pages_figures_are_those_of_the_client() -> None:
    assert f"Up to {RETRIES} times in a row" in PAGE
    assert f"{retry.LONGEST_PAUSE_SECONDS:g} s at most" in PAGE
    assert f"{retry.FIRST_PAUSE_SECONDS:g} s, {2 * retry.FIRST_PAUSE_SECONDS:g} s" in PAGE
    assert f"{DEFAULT_SECONDS:g} s for the whole output" in PAGE
    assert f"{LONGEST_SECONDS:,.0f} s is the longest" in PAGE
    assert f"have {CALL_SECONDS:g} s" in PAGE


async def test_the_code_of_the_client_page_runs(
    capsys: pytest.CaptureFixture[str],
) -> None:
    text = (DOCS / "client.md").read_text()
    blocks = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    assert len(blocks) == 3
    async with (
        servers.target("simulated:step_ms=1") as target,
        servers.orchestrator([target.address], []) as client,
    ):
        for block in blocks:
            here = block.replace('"localhost"', repr(client.address))
            code = compile(here, "client.md", "exec")
            await asyncio.to_thread(exec, code, {"__name__": "__main__"})
    assert capsys.readouterr().out.count("\n") >= 2
