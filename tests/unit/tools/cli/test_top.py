"""paceline top and status: what a person sees of a deployment."""

import io

from rich.console import Console

from paceline.protocol.model import Machine
from paceline.protocol.session import Load
from paceline.protocol.status import (
    DraftPoolCounts,
    DraftPoolStatus,
    DraftPoolTimes,
    PoolState,
    Role,
    Server,
    Speedup,
    Status,
    Totals,
)
from paceline_tools.cli.top import _share, sparkline, view

MACHINE = Machine("1.0", "here", 2, 2, 1, 1, 0.0)
LOST = Server(Role.DRAFT, "1.2.3.4:7072", False, "refused", None, Load(), False, None, 0.0, 0.0)


GOOD = DraftPoolStatus(
    name="large",
    replicas=2,
    replicas_ready=1,
    state=PoolState.IN_USE,
    acceptance_rate=0.8,
    acceptance_by_position=(1.0, 0.5, 0.0),
    speedup=Speedup(1.4, 1.3, 1.5),
    counts=DraftPoolCounts(running=2, drafted=100, accepted=80, wasted=20),
    times=DraftPoolTimes(next_token_seconds=0.0025, restart_seconds=0.004),
)
BAD = DraftPoolStatus(name="small", replicas=1, state=PoolState.BENCHED, reason="it did not pay")


def shown(found: Status, recent: Totals, seconds: float) -> str:
    output = io.StringIO()
    Console(file=output, width=120).print(view(found, recent, seconds, [1.0, 2.0]))
    return output.getvalue()


def test_it_says_how_fast_how_right_and_what_is_lost() -> None:
    totals = Totals(2, 5, 300, 40, 60, 200, 100, 75)
    text = shown(Status(MACHINE, (LOST,), totals, (GOOD, BAD)), totals, 2.0)
    for expected in ("150", "3.00", "0.75", "60%", "refused"):
        assert expected in text
    good, bad = (line for line in text.splitlines() if "1/2" in line or "0/1" in line)
    for expected in (
        "large",
        "in use",
        "2 (100%)",
        "0.80",
        "█▄ ",
        "2.5 / 4.0",
        "1.40 ±0.10",
        "20%",
    ):
        assert expected in good
    for expected in ("small", "benched", "0 (0%)"):
        assert expected in bad
    assert "small: it did not pay" in text


def test_nothing_yet_is_shown_as_nothing() -> None:
    text = shown(Status(MACHINE, ()), Totals(), 0.0)
    assert "since the orchestrator began" in text
    assert "nan" not in text.lower()


def test_what_came_since_is_the_difference_and_what_runs_is_now() -> None:
    earlier, now = (
        Totals(3, 5, 100, 10, 20, 50, 40, 30, 2),
        Totals(1, 6, 150, 15, 25, 80, 60, 44, 1),
    )
    assert now.since(earlier) == Totals(1, 1, 50, 5, 5, 30, 20, 14, 1)
    assert now.since(earlier).acceptance_rate == 0.7


def test_bars_reach_the_top_at_the_highest_value() -> None:
    assert sparkline([0.0, 1.0, 2.0]) == " ▄█"
    assert sparkline([0.0]) == " "


def test_streams_of_a_pool_that_came_back_are_no_share_of_all() -> None:
    pool = DraftPoolStatus("small", counts=DraftPoolCounts(streams=3))
    assert _share(pool, Totals(streams=1)) == "3"
    assert _share(pool, Totals(streams=4)) == "3 (75%)"
