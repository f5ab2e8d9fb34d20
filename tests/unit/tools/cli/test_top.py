"""paceline top and status: what a person sees of a deployment."""

import io
import os
import subprocess
import sys
from dataclasses import replace

import pytest
from rich.console import Console

from paceline.protocol.model import KVSize, Machine, ModelInfo
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


def target(used: int, kv: KVSize | None) -> Server:
    load = Load(sessions=used, kv_pages_used=used, kv_pages_total=16, waiting=5)
    model = ModelInfo("m", "f", "v", 9, 9, (), 1, True, "h", kv=kv)
    return Server(Role.TARGET, "a:1", True, "", model, load, False, MACHINE, 0.001, 0.0)


@pytest.mark.parametrize(
    ("used", "kv", "said"),
    [
        (8, KVSize(512, 16, 8), "4.1k/4.1k 100% +50%"),
        (4, KVSize(512, 16, 8), "2.0k/4.1k 50% +50%"),
        (12, KVSize(512, 16, 8), "6.1k/4.1k 100% +50%"),
        (4, KVSize(512, 16), "2.0k/8.2k 25%"),
        (1, KVSize(512, 16), "512/8.2k 6%"),
        (4, KVSize(2**31, 16), "none"),
        (4, None, "25%"),
    ],
)
def test_kv_is_told_of_what_new_streams_may_have(used: int, kv: KVSize | None, said: str) -> None:
    text = shown(Status(MACHINE, (target(used, kv),)), Totals(), 1.0)
    [row] = [line for line in text.splitlines() if line.startswith("target")]
    assert said in row


def test_columns_are_explained_once() -> None:
    found = Status(MACHINE, (target(8, None),), Totals(), (GOOD,))
    output = io.StringIO()
    Console(file=output, width=120).print(view(found, Totals(), 1.0, [], legends=False))
    assert "RTT:" not in output.getvalue()
    text = shown(found, Totals(), 1.0)
    assert all(
        text.count(f"{word}: ") == 1 for word in ("waiting", "sessions", "accepted", "ready")
    )


def test_a_target_that_loads_says_so() -> None:
    loading = replace(LOST, reason="loading: reading weights, 43 %")
    text = shown(Status(MACHINE, (loading,)), Totals(), 1.0)
    assert "loading" in text
    assert "loading: reading weights, 43 %" in text


def test_nobody_who_reads_ends_it_at_once_and_quietly() -> None:
    reader, writer = os.pipe()
    program = (
        "import asyncio, sys\n"
        "from rich.console import Console\n"
        "from paceline_tools.look import Look\n"
        "async def main():\n"
        "    with Look(Console()) as look:\n"
        "        look.show('one')\n"
        "        await look.wait(600)\n"
        "try:\n"
        "    asyncio.run(main())\n"
        "except BrokenPipeError:\n"
        "    sys.exit(7)\n"
    )
    process = subprocess.Popen([sys.executable, "-c", program], stdout=writer)
    os.close(writer)
    assert os.read(reader, 3) == b"one"
    os.close(reader)
    assert process.wait(60) == 7
