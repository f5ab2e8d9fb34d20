"""When a call is tried again, and for how long; on a clock of its own."""

import asyncio
import math
import random

import pytest

from paceline.client.retry import Backoff
from paceline.errors import (
    DeadlineExceeded,
    InvalidArgument,
    PacelineError,
    ResourceExhausted,
    Unavailable,
)
from paceline.rpc.deadline import LONGEST_SECONDS


@pytest.fixture
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Pauses that were made; jitter always takes the most."""
    made: list[float] = []

    async def sleep(seconds: float) -> None:
        made.append(seconds)

    monkeypatch.setattr(asyncio, "sleep", sleep)
    monkeypatch.setattr(random, "uniform", lambda low, high: high)
    return made


async def test_pauses_double_up_to_a_limit_and_begin_anew_after_progress(
    pauses: list[float],
) -> None:
    backoff = Backoff(8, None)
    for _ in range(8):
        await backoff.pause(Unavailable("down"))
    assert pauses == [0.1, 0.2, 0.4, 0.8, 1.6, 2.0, 2.0, 2.0]
    with pytest.raises(Unavailable):
        await backoff.pause(Unavailable("down"))
    backoff.reset()
    await backoff.pause(Unavailable("down"))
    assert pauses[-1] == 0.1


async def test_a_full_server_says_how_long_to_wait_at_least(pauses: list[float]) -> None:
    await Backoff(3, None).pause(ResourceExhausted("full", 2.0))
    assert pauses == [2.1]


@pytest.mark.parametrize("error", [InvalidArgument("bad"), ResourceExhausted("too long", None)])
async def test_what_does_not_pass_is_raised(pauses: list[float], error: PacelineError) -> None:
    with pytest.raises(type(error)):
        await Backoff(3, None).pause(error)
    assert pauses == []


async def test_no_pause_outlasts_the_callers_time(pauses: list[float]) -> None:
    with pytest.raises(DeadlineExceeded, match="no time is left to try again after: full"):
        await Backoff(3, 1.0).pause(ResourceExhausted("full", 2.0))
    assert pauses == []


@pytest.mark.parametrize("seconds", [math.inf, 1e300, 1e10])
def test_time_without_end_is_as_long_as_there_is(seconds: float) -> None:
    """None at all would be the server's ten minutes."""
    remaining = Backoff(3, seconds).remaining
    assert remaining is not None
    assert LONGEST_SECONDS - 60 < remaining <= LONGEST_SECONDS


def test_a_time_that_is_no_number_is_refused() -> None:
    with pytest.raises(InvalidArgument, match="timeout is nan"):
        Backoff(3, math.nan)


async def test_what_has_begun_or_is_only_full_is_tried_again_as_long_as_there_is_time(
    pauses: list[float],
) -> None:
    backoff = Backoff(1, None)
    for _ in range(3):
        await backoff.pause(ResourceExhausted("full", 0.5))
    backoff.reset()
    for _ in range(3):
        await backoff.pause(Unavailable("down"))
    assert len(pauses) == 6
    never = Backoff(0, None)
    never.reset()
    with pytest.raises(Unavailable, match="down"):
        await never.pause(Unavailable("down"))


async def test_a_loss_is_told_once_until_there_is_progress(pauses: list[float]) -> None:
    told: list[str] = []
    backoff = Backoff(2, None, lambda error, seconds: told.append(f"{error} {seconds}"))
    await backoff.pause(Unavailable("not there"))
    backoff.reset()
    for loss in ("first", "second"):
        for again in ("", " again"):
            await backoff.pause(Unavailable(loss + again))
        backoff.reset()
    assert told == ["first None", "second None"]
