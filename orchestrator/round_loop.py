"""The round: propose, verify, recover. The whole of speculative decoding on one screen.

It does no I/O of its own. Target, Draft and Stream are the seam: TargetCall, DraftLink or NoDraft,
and OutputStream are behind it, and in simulations others are.
"""

from collections.abc import AsyncIterator
from typing import Protocol

from orchestrator.speculation.drafting.draft_buffer import Offer
from orchestrator.speculation.pacing.pacer import Pacer
from orchestrator.speculation.pacing.plan import DraftState, Plan
from paceline.protocol.proposal import DraftToken, Proposal
from paceline.protocol.verdict import TimedVerdict, Verify


class Target(Protocol):
    """The session on the target server."""

    def verdicts(self) -> AsyncIterator[TimedVerdict]:
        """Verdicts as they come."""

    async def ask(self, verify: Verify) -> None:
        """Ask for verdicts."""


class Draft(Protocol):
    """The session on the draft server. It gives advice, which may be late, wrong or absent."""

    @property
    def state(self) -> DraftState:
        """What there is to plan with."""

    def advance(self, verdict: TimedVerdict) -> tuple[DraftToken, ...]:
        """Commit what was decided; returns the draft tokens that were verified."""

    def is_short_of(self, plan: Plan) -> bool:
        """Whether taking what is planned means waiting."""

    async def take(self, plan: Plan) -> Offer:
        """What it has drafted, waited for as the plan says; may be empty."""


class Stream(Protocol):
    """The output to the client."""

    @property
    def remaining(self) -> int:
        """Tokens to go; 0 when the output has ended."""

    def emit(self, verdict: TimedVerdict) -> None:
        """Take the verdict's tokens: nothing else emits. Never waits for the client."""

    def settle(self) -> None:
        """Make text of what was emitted, while the servers work; may end the output."""

    async def room(self) -> None:
        """Wait until the buffer of a client that reads slowly has room."""


async def rounds(target: Target, draft: Draft, pacer: Pacer, stream: Stream) -> None:
    """Run rounds until the output ends."""
    await target.ask(Verify())
    owed = 1  # verdicts that the target still owes, at least
    late: Proposal | None = None  # sent while a step was under way: it is for the next one
    async for timed in target.verdicts():
        stream.emit(timed)
        owed = 0 if timed.verdict.verified else owed - 1
        pacer.observe(timed, draft.advance(timed))
        if stream.remaining and not (owed and (follows(late, timed) or pacer.rests)):
            plan = pacer.plan(stream.remaining, draft.state)
            if draft.is_short_of(plan):
                if plan.meanwhile:
                    await target.ask(Verify(None, plan.continue_steps))
                    owed = 1 + plan.continue_steps
                stream.settle()  # while the draft works; below, while the target does
                if not stream.remaining:
                    return
            offer = await draft.take(plan)
            if offer.proposal.token_ids or not owed:  # else it decodes on by itself
                late = offer.proposal if offer.proposal.token_ids and owed else None
                verify = asked(offer, plan)
                await target.ask(verify)
                owed = 1 + (late is not None) + verify.continue_steps
        stream.settle()
        if not stream.remaining:
            return
        await stream.room()


def follows(late: Proposal | None, timed: TimedVerdict) -> bool:
    """Whether the verdict leads to the proposal that was sent meanwhile: the next step has it."""
    return late is not None and timed.verdict.token_ids[:1] == late.token_ids[:1]


def asked(offer: Offer, plan: Plan) -> Verify:
    """One step for draft tokens, so that it is the last that the target owes; else many."""
    if not offer.proposal.token_ids:
        return Verify(None, plan.continue_steps)
    return Verify(offer.proposal, branches=offer.branches)
