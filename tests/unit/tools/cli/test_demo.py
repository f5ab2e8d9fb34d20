"""The comparison of the demo fits a terminal, and no word of it is cut."""

import io

import pytest
from rich.console import Console

from paceline_tools.cli.demo import MEASURES, PROMPTS, comparison


@pytest.mark.parametrize("width", [80, 120])
def test_the_comparison_fits(width: int) -> None:
    written = io.StringIO()
    values = tuple(f"{measure[:3]} 1234.5 of 16" for measure in MEASURES)
    console = Console(file=written, width=width, emoji=False)
    console.print(comparison(dict.fromkeys(PROMPTS, values)))
    shown = written.getvalue()
    assert all(len(line) <= width for line in shown.splitlines())
    assert "…" not in shown
    for words in (*MEASURES, *PROMPTS, *values):
        assert words in shown
