"""The loop's clock measures: it goes on while a callback runs."""

import asyncio
import time

from paceline.rpc.event_loop import EventLoop


async def while_busy() -> tuple[float, float]:
    """What the loop's clock and the system's show of the same time, in which the loop is busy."""
    loop = asyncio.get_running_loop()
    started, began = loop.time(), time.monotonic()
    while time.monotonic() < began + 0.002:
        pass
    passed = time.monotonic() - began
    return loop.time() - started, passed


def test_the_clock_goes_on_while_a_callback_runs() -> None:
    with asyncio.Runner(loop_factory=EventLoop) as runner:
        shown, passed = runner.run(while_busy())
    assert shown >= passed
