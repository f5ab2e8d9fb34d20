"""Progress where there is no terminal: lines at a task's beginning and end, and now and then."""

import io

from rich.console import Console

from paceline_tools.progress import LINE_SECONDS, Lines, progress


def test_bars_are_for_terminals() -> None:
    assert isinstance(progress(Console(file=io.StringIO())), Lines)
    on_terminal = progress(Console(file=io.StringIO(), force_terminal=True))
    assert not isinstance(on_terminal, Lines)


def test_a_line_now_and_then() -> None:
    output = io.StringIO()
    now = 0.0
    with Lines(console=Console(file=output), get_time=lambda: now) as shown:
        shown.add_task("loading", total=None)
        task = shown.add_task("[x] measuring", total=100)
        for _ in range(99):
            now += LINE_SECONDS / 40
            shown.advance(task)
        shown.update(task, completed=100)
        shown.update(task, description="[x] measured")
        assert list(shown.track("ab", description="tracking")) == ["a", "b"]
    assert output.getvalue().splitlines() == [
        "loading",
        "[x] measuring 0/100",
        "[x] measuring 40/100",
        "[x] measuring 80/100",
        "[x] measuring 100/100",
        "tracking 0/2",
        "tracking 2/2",
    ]
