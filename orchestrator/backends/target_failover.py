"""The target of one stream: one server after another, from the first token to the last."""

import asyncio
import contextlib
import dataclasses
from collections.abc import Callable, Iterator, Mapping
from typing import Protocol

import structlog

from orchestrator.backends.pool import Pool
from orchestrator.backends.replica import Replica
from orchestrator.backends.server_contract import BrokenContract
from orchestrator.backends.session_calls import TargetCall
from orchestrator.round_loop import Draft, Stream, rounds
from orchestrator.speculation.pacing.pacer import Pacer
from paceline.errors import (
    Internal,
    InvalidArgument,
    PacelineError,
    ResourceExhausted,
    Unavailable,
)
from paceline.protocol.model import ModelInfo
from paceline.protocol.session import Opening
from paceline.protocol.verdict import PromptLogprobs

_log = structlog.get_logger(__name__)

FAILOVER_SECONDS = 30.0
"""A stream that gets no token for so long, while no target has it, is given up."""
_PAUSE_SECONDS = 0.2


class ResumableStream(Stream, Protocol):
    """The output of a stream that may move to another target."""

    on_target: Callable[[ModelInfo], None]

    @property
    def output(self) -> tuple[int, ...]:
        """Tokens decided so far."""

    @property
    def generated(self) -> int:
        """Output tokens made here, without those the stream came with."""

    def emit_prompt_logprobs(self, piece: PromptLogprobs) -> None:
        """Pass a piece on, once: a target that takes over sends all pieces again."""

    def interrupted(self) -> None:
        """The time until the next verdict does not count as a round."""

    def without_target(self, *, lost: bool) -> None:
        """It waits for a target. lost: it had one."""

    def waits(self, waiting: bool) -> None:
        """Whether it waits for a target or for KV, until the next verdict."""


class TargetLink:
    """A session on some target server; when that is lost, on another one with equal numerics.

    A stream moves only to an equal fingerprint, with the tokens it has: what it resumes as is an
    ordinary stream.
    """

    def __init__(
        self,
        targets: Pool,
        draft: Draft,
        pacer: Pacer,
        opening: Opening,
        stream: ResumableStream,
        deadline: float,
    ) -> None:
        """Generate `stream` until `deadline`, on the event loop's clock, once run() runs."""
        self._targets = targets
        self._draft = draft
        self._pacer = pacer
        self._opening = opening
        self._stream = stream
        self._deadline = deadline
        self._broken: dict[Replica, PacelineError] = {}
        self._held_seconds = 0.0
        self._lost_at: int | None = None

    async def run(self) -> None:
        """Run rounds until the output ends; when a target is lost, go on with another.

        Raises Unavailable after FAILOVER_SECONDS without a token, those left out in which a target
        had the stream wait for KV.
        """
        now = asyncio.get_running_loop().time
        give_up = now() + FAILOVER_SECONDS
        while self._stream.remaining:
            had, self._held_seconds = len(self._stream.output), 0.0
            try:
                await self._follow_any()
            except Unavailable as error:
                give_up += self._held_seconds
                if len(self._stream.output) > had:
                    give_up = now() + FAILOVER_SECONDS
                if now() > give_up:
                    raise
                await self._pause(error)

    async def _pause(self, error: Unavailable) -> None:
        """Between two targets."""
        output_tokens = len(self._stream.output)
        if output_tokens != self._lost_at:  # it is said once, however often another is looked for
            _log.warning("target lost", reason=str(error), output_tokens=output_tokens)
        self._lost_at = output_tokens
        self._stream.settle()
        self._stream.interrupted()
        self._stream.without_target(lost=self._held_seconds > 0)
        await asyncio.sleep(_PAUSE_SECONDS)

    async def _follow_any(self) -> None:
        """Run rounds with the first target that takes the stream.

        One that has KV for it now comes before one where it has to wait. If none takes it, raises
        the refusal of the last target that is only full, else the last one. If the stream has
        begun, or a target that is away may take it, raises Unavailable instead: the stream waits.
        A target that breaks the contract counts as lost, and is not asked again.
        """
        refused, full = dict(self._broken), dict[Replica, PacelineError]()
        waits = self._alike == 1
        while True:
            try:
                replica = self._pick({**refused, **full})
            except (Unavailable, ResourceExhausted):
                if waits or not full:
                    raise
                waits = True
                full.clear()
                continue
            error = await self._try(replica, waits=waits)
            if error is None:
                return
            (refused if waits or isinstance(error, InvalidArgument) else full)[replica] = error

    @property
    def _alike(self) -> int:
        """Targets that are ready and serve the model."""
        fingerprint = self._opening.fingerprint
        models = [replica.model for replica in self._targets.ready]
        return sum(model is not None and model.fingerprint == fingerprint for model in models)

    def _pick(self, refused: Mapping[Replica, PacelineError]) -> Replica:
        return _pick(self._targets, self._opening, refused, begun=self._stream.generated > 0)

    async def _try(self, replica: Replica, *, waits: bool) -> PacelineError | None:
        """Run rounds with a target; returns its refusal, where it has no KV for the stream."""
        stream = self._stream
        opening = dataclasses.replace(
            self._opening, output_token_ids=stream.output, no_wait=not waits
        )
        seconds = self._deadline - asyncio.get_running_loop().time()
        room = stream.room if opening.prompt_logprobs is not None else None
        call = TargetCall(
            replica,
            seconds,
            stream.emit_prompt_logprobs,
            room,
            stream.interrupted,
            stream.waits,
        )
        async with call as target:
            try:
                with self._broken_by(replica):
                    await target.open(opening)
            except (InvalidArgument, ResourceExhausted) as error:
                return error
            await self._follow(target, replica)
        return None

    async def _follow(self, target: TargetCall, replica: Replica) -> None:
        """Run rounds with a target that has the stream."""
        if replica.model is not None:
            self._stream.on_target(replica.model)
        now = asyncio.get_running_loop().time
        began = now()
        try:
            with self._broken_by(replica):
                await rounds(target, self._draft, self._pacer, self._stream)
        finally:
            self._held_seconds = now() - began

    @contextlib.contextmanager
    def _broken_by(self, replica: Replica) -> Iterator[None]:
        """A target that breaks the contract counts as lost."""
        try:
            yield
        except BrokenContract as error:
            reason = f"the target at {replica.address} broke the contract: {error}"
            self._broken[replica] = Internal(reason)
            raise Unavailable(reason) from error


def _pick(
    targets: Pool, opening: Opening, refused: Mapping[Replica, PacelineError], *, begun: bool
) -> Replica:
    wanted = f"target with fingerprint {opening.fingerprint}"
    try:
        return targets.pick(lambda one: one.fingerprint == opening.fingerprint, wanted, refused)
    except Unavailable:
        if not refused:
            raise
    full = [one for one in refused.values() if isinstance(one, ResourceExhausted)]
    error = full[-1] if full else list(refused.values())[-1]
    broken = all(isinstance(one, Internal) for one in refused.values())
    final = full or _all_were_asked(targets, opening.fingerprint, refused)
    if not broken and (begun or not final):
        raise Unavailable(f"no target that is there takes the stream: {error}") from None
    raise error from None


def _all_were_asked(
    targets: Pool, fingerprint: str, refused: Mapping[Replica, PacelineError]
) -> bool:
    """Whether no other target is known that may come back and have room."""
    known = [one for one in targets.all if one.model is not None and not one.health.retired]
    alike = [one for one in known if one.model and one.model.fingerprint == fingerprint]
    return all(one in refused for one in alike)
