"""Along an output that is known already: what a draft would have drafted, round by round."""

import asyncio
from collections.abc import AsyncIterator
from itertools import pairwise

from orchestrator.backends.replica import Replica
from orchestrator.backends.session_calls import DraftCall
from orchestrator.speculation.drafting.draft_buffer import ProposalBuffer
from orchestrator.speculation.estimates.shadow import ShadowedOutput, ShadowMeasurements
from paceline.errors import Unavailable
from paceline.protocol.advance import Advance
from paceline.protocol.proposal import Proposal
from paceline.protocol.session import Opening

LENGTH = 6
"""Draft tokens of a round."""
ROUND_SECONDS = 10.0
"""A draft that has no answer for so long is left."""
SESSION_SECONDS = 600.0
"""Deadline of a session."""


class ShadowWalk:
    """One output, walked along by one draft. Times go to the measurements, tokens to `came`."""

    def __init__(
        self,
        opening: Opening,
        output: tuple[int, ...],
        vocabulary_size: int,
        measurements: ShadowMeasurements,
    ) -> None:
        """opening: the draft's, with nothing of the output. vocabulary_size: of the target."""
        self._opening = opening
        self._true = output[: opening.max_tokens - 1]  # the last token of a session is not drafted
        self._buffer = ProposalBuffer(opening.prompt_token_ids, vocabulary_size)
        self._vocabulary_size = vocabulary_size
        self._measurements = measurements
        self._now = asyncio.get_running_loop().time
        self.came = ShadowedOutput()

    async def run(self, replica: Replica, round_seconds: float) -> None:
        """Walk to the end of the output, no round sooner than so long after the one before.

        Raises what the draft answers instead, and Unavailable where it does not answer.
        """
        position, news = len(self._opening.prompt_token_ids), self._true[:0]
        async with DraftCall(replica, SESSION_SECONDS, self._vocabulary_size) as call:
            await call.open(self._opening)
            proposals = call.proposals()
            while left := self._true[self.came.tokens :]:
                began, lookahead = self._now(), min(LENGTH, len(left))
                await call.advance(Advance(position, news, lookahead, lookahead))
                await self._draft_tokens(proposals, lookahead, began, first=not self.came.rounds)
                position, news = position + len(news), self._judge(left)
                await asyncio.sleep(max(0.0, began + round_seconds - self._now()))

    def _judge(self, left: tuple[int, ...]) -> tuple[int, ...]:
        """The tokens that a round of what is there would have decided."""
        drafted = tuple(token.id for token in self._buffer.draft_tokens)
        decided = left[: self.came.judge(drafted, left)]
        self._buffer.commit(decided)
        return decided

    async def _draft_tokens(
        self, proposals: AsyncIterator[Proposal], count: int, began: float, *, first: bool
    ) -> None:
        """Until so many are there, or no more come. first: the prompt is read before."""
        arrivals = [began]
        try:
            async with asyncio.timeout(ROUND_SECONDS if not first else SESSION_SECONDS / 10):
                async for proposal in proposals:
                    added = self._buffer.add(proposal)
                    arrivals += [self._now()] * added
                    if len(self._buffer) >= count or self._ended(proposal):
                        break
        except TimeoutError:
            raise Unavailable("the draft has not drafted in time") from None
        self._note(arrivals, first=first)

    def _ended(self, proposal: Proposal) -> bool:
        ends = not proposal.token_ids and self._buffer.ends_at(proposal)
        return ends or self._buffer.last in self._opening.stop_token_ids

    def _note(self, arrivals: list[float], *, first: bool) -> None:
        """What the tokens of a round took; tokens of one message have their share of the time."""
        if len(arrivals) < 2:
            return
        waits = [late - early for early, late in pairwise(arrivals)]
        if not first:
            self._measurements.restart.observe(waits[0])
        if len(waits) > 1:
            self._measurements.step.observe(sum(waits[1:]) / len(waits[1:]))
