"""Runs the choices of one call: each is a stream of its own, all fill one event buffer."""

import asyncio
import dataclasses
import math
from statistics import median

import structlog

from orchestrator.backends.draft_link import DraftLink, NoDraft
from orchestrator.backends.draft_router import DraftRouter
from orchestrator.backends.pool import Pool
from orchestrator.backends.shadow import EndedOutput, Shadows
from orchestrator.backends.target_failover import TargetLink
from orchestrator.serving.all_streams import AllStreams
from orchestrator.serving.cancelled import cancelled
from orchestrator.serving.event_buffer import EventBuffer
from orchestrator.serving.metrics import OrchestratorMetrics, outcome_of
from orchestrator.serving.output import OutputStream
from orchestrator.serving.traces import describe_outputs, stream_span
from orchestrator.settings import OrchestratorSettings
from orchestrator.speculation.estimates.measurements import DraftMeasurements
from orchestrator.speculation.pacing.adaptive_pacer import AdaptivePacer
from orchestrator.speculation.pacing.cost_objective import CostObjective
from orchestrator.speculation.pacing.pacer import FixedPacer, RestingPacer
from orchestrator.speculation.pacing.pool_pacer import PoolPacer
from paceline.best_effort import best_effort
from paceline.errors import Cancelled, DeadlineExceeded, Internal, PacelineError
from paceline.protocol.generation import Speculation
from paceline.protocol.model import ModelInfo
from paceline.rpc.deadline import LATE_SECONDS

_log = structlog.get_logger(__name__)


class ChoiceRunner:
    """Runs the choices of calls: a round loop for each, with a draft where speculation is on."""

    def __init__(
        self,
        settings: OrchestratorSettings,
        targets: Pool,
        drafts: DraftRouter,
        streams: AllStreams,
        metrics: OrchestratorMetrics,
        shadows: Shadows,
    ) -> None:
        """The pools are watched elsewhere."""
        self._settings = settings
        self._targets = targets
        self._drafts = drafts
        self._metrics = metrics
        self._shadows = shadows
        self._streams = streams
        self._objective = _objective(settings)

    @property
    def begun(self) -> int:
        """Streams that wait for no target, nor for KV or their first token there."""
        return len(self._streams.running) - self._streams.waiting

    async def run(
        self,
        choices: list[OutputStream],
        speculation: Speculation,
        model: ModelInfo,
        event_buffer: EventBuffer,
        seconds: float,
    ) -> None:
        """Fill the event buffer, and end it whatever happens; within `seconds`."""
        deadline = asyncio.get_running_loop().time() + seconds
        error: PacelineError | None = Cancelled("the client has gone")
        try:
            async with asyncio.timeout(seconds):
                wanted = self._wants_draft(speculation)
                with self._streams.run(choices, model.name, want_draft=wanted):
                    await self._run_all(choices, speculation, model, event_buffer, seconds)
            error = None
        except TimeoutError:
            error = _too_late(seconds)
        except asyncio.CancelledError:
            if asyncio.get_running_loop().time() > deadline - LATE_SECONDS:
                error = _too_late(seconds)  # its deadline came here before our own timer
            error = event_buffer.aborted or error
            raise
        except PacelineError as raised:
            error = raised
        except Exception:
            with best_effort("the log"):
                _log.exception("stream failed")
            error = Internal(f"a bug ended the stream; request id {choices[0].opening.request_id}")
        finally:
            event_buffer.end(error)  # first: what follows may fail, and no client waits for it
            describe_outputs(choices)
            for choice in choices:
                ended = None if choice.ended else error
                with best_effort("metrics"):
                    self._metrics.finished(choice, model.name, ended)
                with best_effort("the log"):
                    _log_end(choice, model.name, speculation, ended)
                with best_effort("shadow drafts"):
                    self._shadows.offer(_ended_output(choice, model))

    async def _run_all(
        self,
        choices: list[OutputStream],
        speculation: Speculation,
        model: ModelInfo,
        event_buffer: EventBuffer,
        seconds: float,
    ) -> None:
        """The first choice goes ahead, so that the others find its prompt in KV."""
        first, *others = choices

        async def traced(choice: OutputStream) -> None:
            with stream_span(choice, speculation):
                await self._generate(choice, speculation, model, seconds)

        async def follow(choice: OutputStream) -> None:
            await first.begun.wait()
            await traced(choice)
            event_buffer.put(choice.finished())

        try:
            async with asyncio.TaskGroup() as tasks:
                for choice in others:
                    tasks.create_task(follow(choice))
                await traced(first)
                event_buffer.put(first.finished())
        except BaseExceptionGroup as group:
            raise group.exceptions[0] from group

    async def _generate(
        self, stream: OutputStream, speculation: Speculation, model: ModelInfo, seconds: float
    ) -> None:
        opening = stream.opening
        deadline = asyncio.get_running_loop().time() + seconds
        if not self._wants_draft(speculation):
            alone = FixedPacer(0, 0.0)
            await TargetLink(self._targets, NoDraft(), alone, opening, stream, deadline).run()
            return
        pacer = self._pacer(speculation)
        draft = DraftLink(
            self._drafts,
            pacer,
            model,
            opening,
            stream,
            lookahead=self._settings.lookahead,
            seconds=seconds,
        )
        stream.on_interruption, stream.on_target = pacer.interrupted, draft.use_target
        target = TargetLink(self._targets, draft, pacer, opening, stream, deadline)
        drafting = asyncio.create_task(draft.run())
        try:
            await target.run()
        finally:
            await _ended(drafting)
            with best_effort("pacing"):
                pacer.end()
                _log_pacing(pacer, speculation)

    def _wants_draft(self, speculation: Speculation) -> bool:
        return speculation is not Speculation.OFF and self._settings.draft_length > 0

    def _pacer(self, speculation: Speculation) -> PoolPacer:
        settings = self._settings

        def make(measurements: DraftMeasurements) -> RestingPacer:
            if speculation is Speculation.FORCE:
                return FixedPacer(settings.draft_length, settings.draft_wait_seconds)
            return AdaptivePacer(
                measurements,
                settings.max_draft_length,
                settings.draft_wait_seconds,
                self._objective,
                settings.max_branch_tokens,
            )

        return PoolPacer(make, DraftMeasurements(self._drafts.target), self._drafts.none)


def _objective(settings: OrchestratorSettings) -> CostObjective | None:
    """None: time. The settings have prices where it is cost."""
    target, draft = settings.target_price, settings.draft_price
    if target is None or draft is None:
        return None
    most = settings.max_token_latency_ms
    return CostObjective(target, draft, math.inf if most is None else most / 1e3)


def _too_late(seconds: float) -> DeadlineExceeded:
    return DeadlineExceeded(f"the output was not whole after {max(0.0, seconds):.1f} s")


async def _ended(drafting: "asyncio.Task[None]") -> None:
    """Cancel a stream's drafting; its session is freed then. A bug that ended it is logged."""
    outcome = await cancelled(drafting)
    if isinstance(outcome, Exception):
        with best_effort("the log"):
            _log.error("drafting failed", exc_info=outcome)


def _ended_output(stream: OutputStream, model: ModelInfo) -> EndedOutput:
    statistics = stream.statistics
    alone = statistics.gaps if not statistics.own.rounds else []
    step = median(alone) if alone else None
    return EndedOutput(stream.opening, stream.output, model, step, statistics.cost)


def _log_pacing(pacer: PoolPacer, speculation: Speculation) -> None:
    explained = pacer.explain()
    _log.info(
        "stream paced", speculation=speculation.value, steps=explained.steps, **explained.numbers
    )


def _log_end(
    stream: OutputStream, model: str, speculation: Speculation, error: PacelineError | None
) -> None:
    """Log one line for a stream that ended, with its statistics."""
    _log.info(
        "stream finished",
        model=model,
        outcome=outcome_of(stream, error),
        speculation=speculation.value,
        prompt_tokens=stream.usage.prompt_tokens,
        cached_tokens=stream.usage.cached_tokens,
        output_tokens=stream.usage.output_tokens,
        queue_seconds=stream.statistics.queue_seconds,
        **dataclasses.asdict(stream.statistics.result()),
    )
