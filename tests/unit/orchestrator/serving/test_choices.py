"""The choices of one call: whatever goes wrong beside them, their event buffer ends."""

import asyncio
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from orchestrator.backends.draft_link import DraftLink
from orchestrator.backends.draft_router import DraftRouter
from orchestrator.backends.pool import Pool
from orchestrator.backends.shadow import Shadows
from orchestrator.backends.target_failover import TargetLink
from orchestrator.serving import choices as module
from orchestrator.serving.all_streams import AllStreams
from orchestrator.serving.choices import ChoiceRunner
from orchestrator.serving.metrics import OrchestratorMetrics
from orchestrator.settings import OrchestratorSettings
from orchestrator.speculation.pacing.pool_pacer import PoolPacer
from paceline.errors import DeadlineExceeded
from paceline.protocol.generation import Speculation
from paceline.protocol.model import ModelInfo
from tests.unit.orchestrator.serving.test_output import deltas_of, make_stream

MODEL = ModelInfo("tiny", "print", "words", 100, 1000, (), 1, True, "here")
WAIT_SECONDS = 20.0


def fails(*_: Any, **__: Any) -> None:
    raise ZeroDivisionError


def make_runner() -> ChoiceRunner:
    targets, drafts = Pool(()), DraftRouter({})
    streams = AllStreams(drafts)
    metrics = OrchestratorMetrics(CollectorRegistry(), targets, drafts, streams)
    return ChoiceRunner(OrchestratorSettings(), targets, drafts, streams, metrics, Shadows({}, 1.0))


async def ended(runner: ChoiceRunner, speculation: Speculation = Speculation.AUTO) -> None:
    """A call without a target, to the end of its time: the event buffer must say so."""
    stream, event_buffer = make_stream()
    running = asyncio.create_task(runner.run([stream], speculation, MODEL, event_buffer, 0.01))
    async with asyncio.timeout(WAIT_SECONDS):
        with pytest.raises(DeadlineExceeded):
            async for _ in event_buffer.events():
                pass
        await running


@pytest.mark.parametrize("speculation", [Speculation.AUTO, Speculation.OFF])
@pytest.mark.parametrize("where", ["metrics", "log", "pacer"])
async def test_metrics_and_logs_that_fail_do_not_keep_a_client_waiting(
    where: str, speculation: Speculation, monkeypatch: pytest.MonkeyPatch
) -> None:
    runner = make_runner()
    if where == "metrics":
        monkeypatch.setattr(runner._metrics, "finished", fails)
    elif where == "log":
        monkeypatch.setattr(module, "_log_end", fails)
    else:
        monkeypatch.setattr(PoolPacer, "end", fails)
    await ended(runner, speculation)


async def test_a_whole_output_stays_whole_when_its_log_fails(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def at_once(*_: Any) -> None:
        return

    monkeypatch.setattr(TargetLink, "run", at_once)
    monkeypatch.setattr(PoolPacer, "explain", fails)
    monkeypatch.setattr(module, "_log_end", fails)
    stream, event_buffer = make_stream(output=(1,) * 8, max_tokens=8)
    async with asyncio.timeout(WAIT_SECONDS):
        await make_runner().run([stream], Speculation.AUTO, MODEL, event_buffer, 10.0)
        assert await deltas_of(event_buffer) == []


async def test_when_a_stream_ends_its_drafting_has_ended_too(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    freed: list[bool] = []

    async def drafting(_: Any) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0)
            freed.append(True)

    monkeypatch.setattr(DraftLink, "run", drafting)
    await ended(make_runner())
    assert freed


async def test_a_bug_in_drafting_is_logged_and_costs_the_stream_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    logged: list[BaseException] = []

    async def drafting(_: Any) -> None:
        raise ZeroDivisionError

    def log(event: str, exc_info: BaseException) -> None:
        logged.append(exc_info)

    monkeypatch.setattr(DraftLink, "run", drafting)
    monkeypatch.setattr(module._log, "error", log)
    await ended(make_runner())
    assert [type(error) for error in logged] == [ZeroDivisionError]
