"""The round, the pacer and the statistics, on fakes of the wire alone."""

from collections.abc import AsyncIterator
from dataclasses import replace

import pytest

from orchestrator.round_loop import follows, rounds
from orchestrator.serving.stream_statistics import StreamStatistics
from orchestrator.speculation.drafting.draft_buffer import Offer
from orchestrator.speculation.pacing.pacer import FixedPacer
from orchestrator.speculation.pacing.plan import (
    TARGET_ONLY_STEPS,
    DraftState,
    Plan,
    WaitForCount,
)
from paceline.protocol.generation import Overhead, Statistics
from paceline.protocol.proposal import Drafter, DraftToken, Proposal
from paceline.protocol.verdict import TimedVerdict, Verdict, Verify


class ScriptedTarget:
    """Answers each step with one token; remembers what it was asked."""

    def __init__(self, tokens: int) -> None:
        self.tokens = tokens
        self.asked: list[Verify] = []
        self.owed = 0

    async def ask(self, verify: Verify) -> None:
        self.asked.append(verify)
        self.owed = 1 + verify.continue_steps

    async def verdicts(self) -> AsyncIterator[TimedVerdict]:
        position = 0
        while True:
            assert self.owed > 0, "waiting for a verdict that nobody asked for"
            self.owed -= 1
            proposed = self.asked[-1].proposal
            accepted = len(proposed.token_ids) if proposed else 0
            verdict = Verdict(position, tuple(range(accepted + 1)), accepted, accepted)
            yield TimedVerdict(verdict)
            position += accepted + 1


class ScriptedStream:
    """Counts down."""

    def __init__(self, tokens: int) -> None:
        self.remaining = tokens
        self.verdicts: list[TimedVerdict] = []

    async def room(self) -> None:
        return

    def settle(self) -> None:
        return

    def emit(self, verdict: TimedVerdict) -> None:
        self.verdicts.append(verdict)
        self.remaining -= len(verdict.verdict.token_ids)


class ScriptedDraft:
    """Punctual or not; gives what it has."""

    def __init__(self, *, punctual: bool, has: int) -> None:
        self.state = DraftState(ready=punctual)
        self.has = has
        self.plans: list[Plan] = []

    def advance(self, verdict: TimedVerdict) -> tuple[DraftToken, ...]:
        assert verdict.verdict.token_ids
        return ()

    def is_short_of(self, plan: Plan) -> bool:
        return len(self.plans) % 2 == 0

    async def take(self, plan: Plan) -> Offer:
        self.plans.append(plan)
        return Offer(Proposal(0, 0, (7,) * min(self.has, plan.at_most)))


async def run(draft: ScriptedDraft, tokens: int, length: int) -> ScriptedTarget:
    target, stream = ScriptedTarget(tokens), ScriptedStream(tokens)
    await rounds(target, draft, FixedPacer(length, 1.0), stream)
    assert stream.remaining == 0
    return target


async def test_a_punctual_draft_is_waited_for_and_never_draft_tokens_the_last_token() -> None:
    draft = ScriptedDraft(punctual=True, has=9)
    target = await run(draft, tokens=13, length=4)
    assert [asked.proposal is not None for asked in target.asked] == [False, True, True, True]
    assert [plan.enough for plan in draft.plans] == [4, 4, 1]
    assert all(plan.continue_steps == 0 for plan in draft.plans)


async def test_the_target_alone_pays_no_round_trip_for_each_token() -> None:
    draft = ScriptedDraft(punctual=False, has=0)
    target = await run(draft, tokens=40, length=0)
    assert len(target.asked) == 1 + -(-39 // TARGET_ONLY_STEPS)
    assert all(plan.max_wait((), None, 0.0) == 0 for plan in draft.plans)


async def test_while_the_pacer_rests_nothing_is_planned() -> None:
    draft = ScriptedDraft(punctual=True, has=9)
    target = await run(draft, tokens=40, length=0)
    assert len(draft.plans) == len(target.asked) - 1 == -(-39 // TARGET_ONLY_STEPS)


async def test_a_late_proposal_joins_the_next_step() -> None:
    draft = ScriptedDraft(punctual=False, has=2)
    target = await run(draft, tokens=30, length=4)
    assert all(asked.proposal for asked in target.asked[1:])
    assert all(plan.enough == 0 for plan in draft.plans)


class SteppingTarget(ScriptedTarget):
    """Begins each step before the verdict of the one before is read, as real ones do."""

    async def verdicts(self) -> AsyncIterator[TimedVerdict]:
        position, heard, under_way = 0, 0, None
        left: list[Verify] = []
        while True:
            verdict = _decided(under_way, position) if under_way else None
            if heard < len(self.asked):
                asked, heard = self.asked[-1], len(self.asked)
                left = [asked, *[Verify()] * asked.continue_steps]
            assert left or verdict, "waiting for a verdict that nobody asked for"
            under_way = left.pop(0) if left else None
            if verdict is not None:
                position += len(verdict.token_ids)
                yield TimedVerdict(verdict)


def _decided(step: Verify, position: int) -> Verdict:
    """All that is proposed there is right."""
    proposal = step.proposal
    draft_tokens = proposal.token_ids[position - proposal.position :] if proposal else ()
    accepted = len(draft_tokens)
    return Verdict(position, (*draft_tokens, 5), accepted, accepted)


class FindingDraft(ScriptedDraft):
    """Finds draft tokens behind position 6, while the target decodes on."""

    def __init__(self) -> None:
        super().__init__(punctual=True, has=3)
        self.position = 0

    def advance(self, verdict: TimedVerdict) -> tuple[DraftToken, ...]:
        self.position += len(verdict.verdict.token_ids)
        return ()

    async def take(self, plan: Plan) -> Offer:
        self.plans.append(plan)
        has = self.has if self.position >= 6 else 0
        return Offer(Proposal(self.position, 0, (5,) * min(has, plan.at_most)))


class DecodesOn(FixedPacer):
    """Lets the target decode on until draft tokens come."""

    def plan(self, remaining: int, draft: DraftState) -> Plan:
        plan = super().plan(remaining, draft)
        return replace(plan, continue_steps=8)


async def test_draft_tokens_sent_during_a_step_are_verified_before_others_are_sent() -> None:
    target, stream, draft = SteppingTarget(40), ScriptedStream(40), FindingDraft()
    await rounds(target, draft, DecodesOn(3, 1.0), stream)
    verdicts = [timed.verdict for timed in stream.verdicts]
    first = next(at for at, one in enumerate(verdicts) if one.verified)
    # One step was under way and decided the first of three; all behind it verify in full.
    assert verdicts[first].verified == 2
    assert [one.verified for one in verdicts[first + 1 : -1]] == [3] * (len(verdicts) - first - 2)
    assert stream.remaining == 0


class MeanwhileDraft(FindingDraft):
    """Has nothing when a verdict comes, and draft tokens a little later."""

    def is_short_of(self, plan: Plan) -> bool:
        return True


class Meanwhile(DecodesOn):
    """Has the target decode on while draft tokens are waited for."""

    def plan(self, remaining: int, draft: DraftState) -> Plan:
        waiting = WaitForCount(3, 1.0, in_all=True, meanwhile=True)
        return replace(super().plan(remaining, draft), waiting=waiting)


async def test_the_target_decodes_on_while_draft_tokens_are_waited_for() -> None:
    target, stream, draft = SteppingTarget(40), ScriptedStream(40), MeanwhileDraft()
    await rounds(target, draft, Meanwhile(3, 1.0), stream)
    asked = [(one.proposal is not None, one.continue_steps) for one in target.asked]
    assert asked[:2] == [(False, 0), (False, 8)]
    assert (True, 0) in asked
    # Each proposal is sent behind the order to decode on, and is for the step after that.
    before = [asked[at - 1] for at, one in enumerate(asked) if one[0]]
    assert set(before) == {(False, 8)}
    assert any(timed.verdict.accepted for timed in stream.verdicts)
    assert stream.remaining == 0


@pytest.mark.parametrize(
    ("late", "expected"), [((5, 6), True), ((6, 5), False), ((5,), True), (None, False)]
)
def test_a_proposal_sent_meanwhile_is_waited_for_where_the_step_decided_its_first_token(
    late: tuple[int, ...] | None, *, expected: bool
) -> None:
    proposal = Proposal(3, 0, late) if late else None
    assert follows(proposal, TimedVerdict(Verdict(3, (5,), 0, 0))) is expected


@pytest.mark.parametrize("remaining", [1, 2, 3, 9])
def test_a_plan_leaves_room_for_the_targets_own_token(remaining: int) -> None:
    for ready in (True, False):
        plan = FixedPacer(4, 1.0).plan(remaining, DraftState(ready))
        assert plan.at_most == min(4, remaining - 1)
        assert plan.enough in {0, plan.at_most}
        assert plan.continue_steps < remaining


def test_statistics_count_by_place_and_take_the_wait_out_of_the_overhead() -> None:
    statistics = StreamStatistics(arrived=10.0)
    plain = Verdict(0, (1,), step_seconds=0.5, sampling_seconds=0.0625, queue_seconds=0.03125)
    first, second = (
        replace(plain, verified=verified, accepted=accepted)
        for verified, accepted in ((3, 2), (2, 0))
    )
    statistics.observe(TimedVerdict(plain, arrived_seconds=11.0), 0.0)
    statistics.observe(TimedVerdict(first, 12.0, asked_seconds=11.375), 0.25)
    statistics.observe(TimedVerdict(second, 12.875, asked_seconds=12.25), 0.25)
    statistics.own.drafted[Drafter.MODEL] = 4
    statistics.own.drafted[Drafter.NGRAM] = 2
    assert statistics.result() == Statistics(
        rounds=2,
        drafted=6,
        verified=5,
        accepted=2,
        accepted_by_position=(1, 1, 0),
        verified_by_position=(2, 2, 1),
        target_only_steps=1,
        ttft_seconds=1.0,
        decode_seconds=1.875,
        overhead_seconds=(0.25 + 0.125) / 2,
        overhead=Overhead(0.0625, 0.03125, 0.03125, 0.0, (0.125 + 0.0) / 2),
    )
    assert statistics.result().acceptance_rate == 0.4
    assert statistics.result().mean_accepted == 1.0


def test_the_overhead_of_a_round_leaves_out_the_step_during_which_it_was_asked_for() -> None:
    statistics = StreamStatistics(arrived=0.0)
    plain = Verdict(0, (1,), step_seconds=0.5)
    statistics.observe(TimedVerdict(plain, arrived_seconds=1.0), 0.0)
    during = replace(plain, verified=2, sampling_seconds=0.0625, queue_seconds=0.375)
    statistics.observe(TimedVerdict(during, arrived_seconds=1.75, asked_seconds=0.625), 0.0)
    assert statistics.overheads == [Overhead(sampling=0.0625, queue=0.1875)]
