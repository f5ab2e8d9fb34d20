"""One stream from its first token to its last, over as many target servers as that takes."""

import asyncio
import dataclasses

import structlog

from orchestrator.calls import TargetCall
from orchestrator.pacer import Pacer
from orchestrator.pools import Pool
from orchestrator.round import Draft, rounds
from orchestrator.stream import OutputStream
from paceline.errors import Unavailable
from paceline.session import Opening

_log = structlog.get_logger(__name__)

FAILOVER_SECONDS = 30.0
"""A stream that gets no token for this long is given up."""
_PAUSE_SECONDS = 0.2


async def run_stream(
    targets: Pool,
    draft: Draft,
    pacer: Pacer,
    opening: Opening,
    stream: OutputStream,
    deadline: float,
) -> None:
    """Run rounds until the output ends; when a target is lost, go on with another.

    A stream moves only to an equal fingerprint, with the tokens it has: what it resumes
    as is an ordinary stream. deadline: on the event loop's clock. Raises Unavailable after
    FAILOVER_SECONDS without a token.
    """
    loop = asyncio.get_running_loop()
    give_up = loop.time() + FAILOVER_SECONDS
    while stream.remaining:
        had = len(stream.output)
        try:
            await _follow_one(targets, draft, pacer, opening, stream, deadline - loop.time())
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
    stream: OutputStream,
    seconds: float,
) -> None:
    replica = targets.pick(
        lambda model: model.fingerprint == opening.fingerprint,
        f"target with fingerprint {opening.fingerprint}",
    )
    room = stream.room if opening.prompt_logprobs is not None else None
    async with TargetCall(replica, seconds, stream.emit_prompt_logprobs, room) as target:
        await target.open(dataclasses.replace(opening, output_token_ids=stream.output))
        await rounds(target, draft, pacer, stream)
