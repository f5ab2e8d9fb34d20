"""One stream from its first token to its last, over as many target servers as that takes."""

import asyncio
import contextlib
import dataclasses
from collections.abc import Callable, Iterator, Mapping
from typing import Protocol

import structlog

from orchestrator.backends.calls import TargetCall
from orchestrator.backends.contract import BrokenContract
from orchestrator.backends.pool import Pool
from orchestrator.backends.replica import Replica
from orchestrator.round import Draft, Stream, rounds
from orchestrator.speculation.pacer import Pacer
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
"""A stream that gets no token for this long is given up."""
_PAUSE_SECONDS = 0.2


class ResumableStream(Stream, Protocol):
    """An output that one target after the other may go on with."""

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
        """The time until the next verdict is none that a round takes."""


async def run_stream(
    targets: Pool,
    draft: Draft,
    pacer: Pacer,
    opening: Opening,
    stream: ResumableStream,
    deadline: float,
) -> None:
    """Run rounds until the output ends; when a target is lost, go on with another.

    A stream moves only to an equal fingerprint, with the tokens it has: what it resumes
    as is an ordinary stream. deadline: on the event loop's clock. Raises Unavailable after
    FAILOVER_SECONDS without a token.
    """
    loop = asyncio.get_running_loop()
    give_up = loop.time() + FAILOVER_SECONDS
    broken: dict[Replica, PacelineError] = {}
    while stream.remaining:
        had = len(stream.output)
        try:
            seconds = deadline - loop.time()
            await _follow_one(targets, draft, pacer, opening, stream, seconds, broken)
        except Unavailable as error:
            if len(stream.output) > had:
                give_up = loop.time() + FAILOVER_SECONDS
            if loop.time() > give_up:
                raise
            _log.warning("target lost", reason=str(error), output_tokens=len(stream.output))
            stream.settle()
            stream.interrupted()
            await asyncio.sleep(_PAUSE_SECONDS)


async def _follow_one(
    targets: Pool,
    draft: Draft,
    pacer: Pacer,
    opening: Opening,
    stream: ResumableStream,
    seconds: float,
    broken: dict[Replica, PacelineError],
) -> None:
    """Run rounds with the target that takes the stream: the others are asked when one does not.

    Raises what the last one of those that may have room some day said, else what any said. It is
    Unavailable, so that the stream waits, where it has begun, or one that is away may take it. One
    that breaks the contract is added to `broken`, and counts as lost.
    """
    opening = dataclasses.replace(opening, output_token_ids=stream.output)
    room = stream.room if opening.prompt_logprobs is not None else None
    refused = dict(broken)
    while True:
        replica = _pick(targets, opening, refused, begun=stream.generated > 0)
        async with TargetCall(replica, seconds, stream.emit_prompt_logprobs, room) as target:
            try:
                with _broken_by(replica, broken):
                    await target.open(opening)
            except (InvalidArgument, ResourceExhausted) as error:
                refused[replica] = error
                continue
            if replica.model is not None:
                stream.on_target(replica.model)
            with _broken_by(replica, broken):
                await rounds(target, draft, pacer, stream)
            return


@contextlib.contextmanager
def _broken_by(replica: Replica, broken: dict[Replica, PacelineError]) -> Iterator[None]:
    """A target that breaks the contract is one that is lost, and never asked again."""
    try:
        yield
    except BrokenContract as error:
        reason = f"the target at {replica.address} broke the contract: {error}"
        broken[replica] = Internal(reason)
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
    """Whether none is known that may come back and have room for what the others have not."""
    known = [one for one in targets.all if one.model is not None and not one.health.retired]
    alike = [one for one in known if one.model and one.model.fingerprint == fingerprint]
    return all(one in refused for one in alike)
