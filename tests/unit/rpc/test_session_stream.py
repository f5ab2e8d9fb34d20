"""When a session's items go: at their moments, or at once where nothing will join them."""

import asyncio
import itertools
import math

import pytest

from paceline.rpc import session_stream as module
from paceline.rpc.event_loop import TIMER_SECONDS
from paceline.rpc.session_stream import Deliveries, Outbox
from paceline_tools.simulation.clock import in_virtual_time


async def sent(joined_in: list[float]) -> list[tuple[float, list[int]]]:
    """Batches, and when: items at 0, 10 and 20 ms that are wanted in 30 and 60 ms.

    joined_in: what is answered each time it is asked; the last one from then on.
    """
    answers = itertools.chain(joined_in, itertools.repeat(joined_in[-1]))
    outbox: Outbox[int] = Outbox(lambda: next(answers))
    loop = asyncio.get_running_loop()
    found: list[tuple[float, list[int]]] = []

    async def read() -> None:
        async for batch in outbox.batches():
            at = loop.time()
            found.append((at, batch))

    reading = asyncio.create_task(read())
    started = loop.time()
    outbox.expect_within((0.03, 0.06))
    for item in range(3):
        outbox.deliver(item)
        await asyncio.sleep(0.01)
    await asyncio.sleep(0.05)
    reading.cancel()
    return [(at - started, batch) for at, batch in found]


def test_what_may_wait_goes_together_at_its_moment() -> None:
    ((at, batch),) = in_virtual_time(sent([0.01]))
    assert at == pytest.approx(0.03, abs=2 * TIMER_SECONDS)
    assert batch == [0, 1, 2]


def test_what_nothing_will_join_goes_at_once_and_its_moment_is_over() -> None:
    (early, first), (late, others) = in_virtual_time(sent([math.inf, 0.01]))
    assert (first, others) == ([0], [1, 2])
    assert early == pytest.approx(0.0, abs=2 * TIMER_SECONDS)
    assert late == pytest.approx(0.06, abs=2 * TIMER_SECONDS)


def test_what_comes_too_late_to_join_is_not_waited_for() -> None:
    (early, first), (late, others) = in_virtual_time(sent([0.031, 0.01]))
    assert (first, others) == ([0], [1, 2])
    assert early == pytest.approx(0.0, abs=2 * TIMER_SECONDS)
    assert late == pytest.approx(0.06, abs=2 * TIMER_SECONDS)


async def test_what_a_step_delivers_is_seen_once_it_has_ended() -> None:
    deliveries = Deliveries()
    outboxes = [Outbox[int]() for _ in range(2)]
    reading = [asyncio.ensure_future(anext(outbox.batches())) for outbox in outboxes]
    await asyncio.sleep(0)
    for item in range(2):
        for outbox in outboxes:
            deliveries.deliver(outbox, item)
    deliveries.flush()
    assert await asyncio.gather(*reading) == [[0, 1], [0, 1]]


async def test_a_full_outbox_says_so_and_then_that_it_has_room(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "MOST_WAITING", 2)
    outbox: Outbox[int] = Outbox()
    for item in range(2):
        assert outbox.has_room()
        outbox.deliver(item)
    assert not outbox.made_room()
    assert not outbox.has_room()
    assert not outbox.made_room()
    batches = outbox.batches()
    assert await anext(batches) == [0, 1]
    assert outbox.made_room()
    assert not outbox.made_room()
    assert outbox.has_room()
    await batches.aclose()
