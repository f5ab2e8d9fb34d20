"""paceline top and status: what a person sees of a deployment."""

import io

from rich.console import Console

from paceline.cli.top import sparkline, view
from paceline.session import Load, Machine
from paceline.status import Drafting, Role, Server, Status, Totals

MACHINE = Machine("1.0", "here", 2, 2, 1, 1, 0.0)
LOST = Server(Role.DRAFT, "1.2.3.4:7072", False, "refused", None, Load(), False, None, 0.0, 0.0)


def shown(found: Status, recent: Totals, seconds: float) -> str:
    output = io.StringIO()
    Console(file=output, width=120).print(view(found, recent, seconds, [1.0, 2.0]))
    return output.getvalue()


def test_it_says_how_fast_how_right_and_what_is_lost() -> None:
    totals = Totals(2, 5, 300, 40, 60, 200, 100, 75)
    drafting = Drafting(0.75, True, 0.9, 0.1, 0.02)
    text = shown(Status(MACHINE, (LOST,), totals, drafting), totals, 2.0)
    for expected in ("150", "3.00", "0.75", "60%", "benched", "0.90 times", "refused"):
        assert expected in text
    assert "100.0 ms" in text


def test_nothing_yet_is_shown_as_nothing() -> None:
    text = shown(Status(MACHINE, ()), Totals(), 0.0)
    assert "since the orchestrator began" in text
    assert "nan" not in text.lower()


def test_what_came_since_is_the_difference_and_what_runs_is_now() -> None:
    earlier, now = Totals(3, 5, 100, 10, 20, 50, 40, 30), Totals(1, 6, 150, 15, 25, 80, 60, 44)
    assert now.since(earlier) == Totals(1, 1, 50, 5, 5, 30, 20, 14)
    assert now.since(earlier).acceptance_rate == 0.7


def test_bars_reach_the_top_at_the_highest_value() -> None:
    assert sparkline([0.0, 1.0, 2.0]) == " ▄█"
    assert sparkline([0.0]) == " "
