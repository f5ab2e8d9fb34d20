"""Recordings over the wire: a target's own output, then a draft's draft tokens along it."""

import asyncio
import statistics
from collections import defaultdict
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate, cycle
from typing import Any

from orchestrator.backends.replica import Replica
from orchestrator.backends.session_calls import DraftCall, TargetCall
from paceline.errors import Internal, Unavailable
from paceline.protocol.advance import Advance
from paceline.protocol.features import VOCABULARY_MAP
from paceline.protocol.proposal import Drafter, DraftToken, Proposal
from paceline.protocol.session import Opening
from paceline.protocol.token_path import TokenPath
from paceline.protocol.verdict import TimedVerdict, Verify
from paceline.protocol.vocabulary import VocabularyMap
from paceline_tools.bench.samples import Prompt
from paceline_tools.evaluation.recording import DraftCosts, RecordedOutput, TargetCosts

SESSION_SECONDS = 3600.0
"""Deadline of one session."""
DRAFT_TOKEN_SECONDS = 120.0
"""How long a draft token is waited for; the first one takes as long as the prompt does."""
VERIFIED_LENGTHS = (1, 2, 3, 4, 6, 8, 12, 16)
"""Draft tokens of the steps that tell what verifying costs."""
COSTED_OUTPUTS = 4
"""Outputs along which that is found out."""
BURST = 8
"""Draft tokens in a row that tell what a draft step takes."""


@dataclass(frozen=True, slots=True)
class TargetOutput:
    """What the target said to a prompt, and when.

    first_seconds: from the request to the first token. step_seconds: of each ordinary decode step.
    """

    prompt: Prompt
    opening: Opening
    token_ids: tuple[int, ...]
    first_seconds: float
    step_seconds: tuple[float, ...]


async def target_output(replica: Replica, prompt: Prompt, opening: Opening) -> TargetOutput:
    """The output of the target alone."""
    verdicts: list[TimedVerdict] = []
    tokens: list[int] = []
    async with _target_call(replica) as call:
        await call.open(opening)
        await call.ask(Verify(continue_steps=opening.max_tokens - 1))
        async for timed in call.verdicts():
            verdicts.append(timed)
            tokens += timed.verdict.token_ids
            if len(tokens) >= opening.max_tokens or tokens[-1] in opening.stop_token_ids:
                break
    return TargetOutput(
        prompt,
        opening,
        tuple(tokens),
        verdicts[0].answer_seconds,
        tuple(timed.verdict.step_seconds for timed in verdicts[1:]),
    )


async def target_costs(replica: Replica, outputs: Sequence[TargetOutput]) -> TargetCosts:
    """What ordinary decode steps took, and what steps take that verify."""
    by_length: dict[int, list[float]] = defaultdict(list)
    by_length[0] = [seconds for output in outputs for seconds in output.step_seconds]
    round_trips: list[float] = []
    verify_token = 0.0
    lengths = cycle(VERIFIED_LENGTHS)
    for output in outputs[:COSTED_OUTPUTS]:
        async for timed in _verified(replica, output, lengths):
            verdict = timed.verdict
            by_length[verdict.verified].append(verdict.step_seconds)
            round_trips.append(max(0.0, timed.answer_seconds - verdict.step_seconds))
            if verdict.cost_model is not None:
                verify_token = verdict.cost_model.token_seconds
    step = statistics.median(by_length[0] or by_length[1])
    prefill = sum(max(0.0, output.first_seconds - step) for output in outputs)
    return TargetCosts(
        verify=_rising(
            {length: statistics.median(of or [step]) for length, of in by_length.items()}
        ),
        prompt_token=prefill / sum(len(output.opening.prompt_token_ids) for output in outputs),
        round_trip=statistics.median(round_trips or [0.0]),
        verify_token=verify_token,
    )


def _rising(seconds: dict[int, float]) -> dict[int, float]:
    """A step never takes less for more tokens: where it seems so, something else was going on."""
    lengths = sorted(seconds)
    return dict(zip(lengths, accumulate((seconds[one] for one in lengths), max), strict=True))


async def _verified(
    replica: Replica, output: TargetOutput, lengths: Iterator[int]
) -> AsyncIterator[TimedVerdict]:
    """Verdicts on true tokens, the prompt's own step left out."""
    path = TokenPath(output.opening.prompt_token_ids)
    prompt, tokens = len(path), output.token_ids
    async with _target_call(replica) as call:
        await call.open(output.opening)
        await call.ask(Verify())
        async for timed in call.verdicts():
            if timed.verdict.verified:
                yield timed
            path.extend(timed.verdict.token_ids)
            done = len(path) - prompt
            draft_tokens = tokens[done : done + min(next(lengths), len(tokens) - done - 1)]
            if not draft_tokens or tuple(path.tokens[prompt:]) != tokens[:done]:
                return
            await call.ask(Verify(Proposal(len(path), path.digest, draft_tokens)))


def _target_call(replica: Replica) -> TargetCall:
    return TargetCall(replica, SESSION_SECONDS, lambda _: None)


class DraftRecorder:
    """Records one draft; each output's session leaves what it took."""

    def __init__(
        self, replica: Replica, vocabulary_size: int, vocabulary: VocabularyMap | None = None
    ) -> None:
        """vocabulary_size: of the target. vocabulary: what the draft has of it, where not all."""
        self._vocabulary = vocabulary
        self._replica = replica
        self._vocabulary_size = vocabulary_size
        self._now = asyncio.get_running_loop().time
        self._first: list[tuple[int, float]] = []
        self._restarts: dict[Drafter, list[float]] = defaultdict(list)
        self._steps: list[float] = []

    async def record(self, output: TargetOutput) -> RecordedOutput:
        """The draft token at each position of the output, all before it committed."""
        draft_tokens = [draft_token async for draft_token in self._draft_tokens(output)]
        if len(self._steps) < COSTED_OUTPUTS:
            await self._burst(output)
        prompt_tokens = len(output.opening.prompt_token_ids)
        return RecordedOutput.of(output.prompt.kind, prompt_tokens, draft_tokens, output.token_ids)

    @property
    def costs(self) -> DraftCosts:
        """What the model's tokens took; where there is none, what lookup took, in no steps."""
        of_model = self._restarts[Drafter.MODEL]
        restart = statistics.median(of_model or self._restarts[Drafter.NGRAM] or [0.0])
        step = min(statistics.median(self._steps or [restart]), restart)
        reading = sum(max(0.0, seconds - restart) for _, seconds in self._first)
        tokens = sum(count for count, _ in self._first)
        return DraftCosts(
            step=step if of_model else 0.0,
            restart=restart,
            prompt_token=reading / tokens if tokens else 0.0,
        )

    async def _draft_tokens(self, output: TargetOutput) -> AsyncIterator[DraftToken | None]:
        position = len(output.opening.prompt_token_ids)
        news: tuple[int, ...] = ()
        # The last token of an output is never drafted, so there must be room behind it.
        opening = self._for_draft(output.opening, max_tokens=len(output.token_ids) + 1)
        async with DraftCall(self._replica, SESSION_SECONDS) as call:
            await call.open(opening)
            proposals = call.proposals()
            for token in output.token_ids:
                asked = self._now()
                await call.advance(Advance(position - len(news), news, 1, 1))
                proposal = await self._next(proposals, position)
                self._note(self._now() - asked, proposal, None if news else position)
                yield self._drafted(proposal)
                news, position = (token,), position + 1

    async def _burst(self, output: TargetOutput) -> None:
        """Tokens in a row, from the middle of the output on; whether they are right is no matter.

        The prompt is not read again: what the session before left is shared.
        """
        half = output.token_ids[: len(output.token_ids) // 2]
        opening = self._for_draft(
            output.opening,
            output_token_ids=half,
            max_tokens=len(half) + BURST + 3,
            stop_token_ids=frozenset(),
        )
        position = len(opening.prompt_token_ids) + len(half)
        arrived: list[tuple[float, Drafter]] = []
        async with DraftCall(self._replica, SESSION_SECONDS) as call:
            await call.open(opening)
            await call.advance(Advance(position, (), BURST + 1))
            proposals = call.proposals()
            while len(arrived) <= BURST:
                proposal = await self._next(proposals, position + len(arrived))
                if not proposal.token_ids:
                    return
                arrived += [(self._now(), proposal.drafter)] * len(proposal.token_ids)
        if all(drafter is Drafter.MODEL for _, drafter in arrived):
            self._steps.append((arrived[-1][0] - arrived[0][0]) / (len(arrived) - 1))

    def _for_draft(self, opening: Opening, **changes: Any) -> Opening:
        features = (VOCABULARY_MAP,) if self._vocabulary is not None else ()
        changes |= {"vocabulary": self._vocabulary, "required_features": features}
        return replace(opening, **changes)

    async def _next(self, proposals: AsyncIterator[Proposal], position: int) -> Proposal:
        try:
            async with asyncio.timeout(DRAFT_TOKEN_SECONDS):
                proposal = await anext(proposals)
        except TimeoutError:
            raise Unavailable(
                f"the draft made no draft token in {DRAFT_TOKEN_SECONDS:g} s"
            ) from None
        if proposal.position != position:
            raise Internal(f"the draft drafts for {proposal.position}, not for {position}")
        return proposal

    def _note(self, seconds: float, proposal: Proposal, prompt_tokens: int | None) -> None:
        """prompt_tokens: for the first token of a session, for which the model reads the prompt."""
        if prompt_tokens is None:
            self._restarts[proposal.drafter].append(seconds)
        elif proposal.drafter is Drafter.MODEL:
            self._first.append((prompt_tokens, seconds))

    def _drafted(self, proposal: Proposal) -> DraftToken | None:
        """None where nothing is proposed, or no token of the target's."""
        if not proposal.token_ids or proposal.token_ids[0] >= self._vocabulary_size:
            return None
        return DraftToken(proposal.token_ids[0], proposal.confidences[0], proposal.drafter)
