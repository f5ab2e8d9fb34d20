"""The comparison of the demo fits a terminal, and no word of it is cut."""

import io
import socket

import pytest
from rich.console import Console

from paceline.errors import Unavailable
from paceline_tools.cli import demo
from paceline_tools.cli.demo import MEASURES, PROMPTS, Demo, comparison


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


def test_a_taken_port_is_named_before_anything_is_fetched(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(demo, "pull", lambda *_: pytest.fail("it fetches"))
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        with pytest.raises(
            Unavailable, match=f"cannot listen on 127.0.0.1:{port}: .* does; end it"
        ):
            Demo(port=port).cli_cmd()
