"""The target of one stream: one server after another, from the first token to the last."""

import asyncio
import contextlib
import dataclasses
from collections.abc import Callable, Iterator, Mapping
from typing import Protocol

import structlog

from orchestrator.backends.pool import Pool
from orchestrator.backends.replica import Replica
from orchestrator.backends.second_target import SecondTarget
from orchestrator.backends.server_contract import BrokenContract
from orchestrator.backends.session_calls import TargetCall
from orchestrator.round_loop import Draft, Stream, Target, rounds
from orchestrator.speculation.pacing.pacer import Pacer
from paceline.errors import (
    DeadlineExceeded,
    FailedPrecondition,
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
_PAUSE_SECONDS = 0.1
_OF_STREAM = (DeadlineExceeded, FailedPrecondition, InvalidArgument, ResourceExhausted)
"""What a target says of a stream; another one would say the same, or is asked for it."""


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
        self._failed: tuple[Replica, int] | None = None
        self._held_seconds = 0.0
        self._lost_at: int | None = None
        self._second = SecondTarget(self._other, self._call, self._rest)

    async def run(self) -> None:
        """Run rounds until the output ends; when a target is lost, go on with another.

        Raises Unavailable after FAILOVER_SECONDS without a token, those left out in which a target
        had the stream wait for KV.
        """
        try:
            await self._run()
        finally:
            self._second.drop()

    async def _run(self) -> None:
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
        """Between two targets, where there is none that the stream can be opened on at once."""
        output_tokens = len(self._stream.output)
        if output_tokens != self._lost_at:  # it is said once, however often another is looked for
            _log.warning("target lost", reason=str(error), output_tokens=output_tokens)
        self._lost_at = output_tokens
        self._stream.settle()
        self._stream.interrupted()
        self._stream.without_target(lost=self._held_seconds > 0)
        if not (self._second.is_there or self._others_are_there):
            await asyncio.sleep(_PAUSE_SECONDS)

    @property
    def _others_are_there(self) -> bool:
        """Whether a target that is not in doubt could take the stream."""
        fits = (one for one in self._targets.ready if one not in self._broken and self._fits(one))
        return any(one.health.misses == 0 for one in fits)

    def _fits(self, replica: Replica) -> bool:
        model = replica.model
        return model is not None and model.fingerprint == self._opening.fingerprint

    async def _follow_any(self) -> None:
        """Run rounds with the first target that takes the stream.

        One that has KV for it now comes before one where it has to wait. If none takes it, raises
        the refusal of the last target that is only full, else the last one. If the stream has
        begun, or a target that is away may take it, raises Unavailable instead: the stream waits.
        A target that breaks the contract counts as lost, and is not asked again. One that has
        answered beside a silent one comes before all.
        """
        if await self._follow_second():
            return
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
            is_full = isinstance(error, ResourceExhausted)
            (full if is_full and not waits else refused)[replica] = error

    async def _follow_second(self) -> bool:
        """Go on with the target that has answered beside a silent one; False where none has."""
        position = len(self._opening.prompt_token_ids) + len(self._stream.output)
        begun = self._second.take(position)
        if begun is None:
            return False
        async with begun.ends:
            self._second.watch(begun.call, begun.replica)
            await self._follow(begun, begun.replica)
        return True

    @property
    def _alike(self) -> int:
        """Targets that are ready and serve the model."""
        return sum(map(self._fits, self._targets.ready))

    def _pick(self, refused: Mapping[Replica, PacelineError]) -> Replica:
        return _pick(self._targets, self._opening, refused, begun=self._stream.generated > 0)

    def _other(self, silent: Replica) -> Replica:
        """A target that is not the silent one."""
        return self._pick({**self._broken, silent: Unavailable(f"{silent.address} is silent")})

    def _rest(self, *, waits: bool = True) -> Opening:
        """The stream as it is now."""
        output = self._stream.output
        return dataclasses.replace(self._opening, output_token_ids=output, no_wait=not waits)

    def _call(self, replica: Replica) -> TargetCall:
        stream = self._stream
        seconds = self._deadline - asyncio.get_running_loop().time()
        room = stream.room if self._opening.prompt_logprobs is not None else None
        return TargetCall(
            replica,
            seconds,
            stream.emit_prompt_logprobs,
            room,
            stream.interrupted,
            stream.waits,
        )

    async def _try(self, replica: Replica, *, waits: bool) -> PacelineError | None:
        """Run rounds with a target; returns its refusal, where it has no KV for the stream.

        One that is lost before it has the stream refuses it, too, while others have not been asked
        with time to wait: they may be full, and a lost one is not asked over and over meanwhile.
        """
        async with self._call(replica) as target:
            self._second.watch(target, replica)
            try:
                with self._lost_by(replica):
                    await target.open(self._rest(waits=waits))
            except (InvalidArgument, FailedPrecondition, ResourceExhausted) as error:
                return error
            except Unavailable as error:
                if waits or self._second.is_there:
                    raise
                return error
            await self._follow(target, replica)
        return None

    async def _follow(self, target: Target, replica: Replica) -> None:
        """Run rounds with a target that has the stream."""
        if replica.model is not None:
            self._stream.on_target(replica.model)
        now = asyncio.get_running_loop().time
        began = now()
        try:
            with self._lost_by(replica):
                await rounds(target, self._draft, self._pacer, self._stream)
        finally:
            self._held_seconds = now() - began

    @contextlib.contextmanager
    def _lost_by(self, replica: Replica) -> Iterator[None]:
        """Whatever ends a session, but the stream's own fault, is a target lost.

        One that breaks the contract, or fails twice without a token between, is not asked again.
        """
        try:
            yield
        except Unavailable as error:
            replica.health.doubt(str(error))
            raise
        except _OF_STREAM:
            raise
        except PacelineError as error:
            reason = f"the target at {replica.address} failed: {error}"
            if isinstance(error, BrokenContract):
                reason = f"the target at {replica.address} broke the contract: {error}"
            failed = replica, len(self._stream.output)
            if isinstance(error, BrokenContract) or failed == self._failed:
                self._broken[replica] = Internal(reason)
            self._failed = failed
            replica.health.doubt(reason)
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
