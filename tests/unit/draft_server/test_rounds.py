"""Every drafter against the target's session, round by round, on table models."""

from dataclasses import dataclass, field, replace

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from draft_server.drafters.registry import DRAFTERS
from draft_server.prompt_lookup import RecentOutputs
from paceline.engine.interfaces import StepReport
from paceline.errors import PacelineError
from paceline.protocol.advance import Advance
from paceline.protocol.proposal import Proposal
from paceline.protocol.sampling import SamplingParams
from paceline.protocol.session import Load, Opening
from paceline.protocol.token_path import TokenPath
from paceline.protocol.verdict import PromptLogprobs, Verdict, Verify
from target_server.verification import Verification
from tests.strategies import sampling_params
from tests.table_model import TableRunner, TokenCache, decode_alone
from tests.unit.draft_server.stepped_engine import SteppedEngine, context

VOCABULARY = 5
TARGET, OTHER = TableRunner(VOCABULARY, 1, order=2), TableRunner(VOCABULARY, 2, order=2)
LOOKAHEAD = 4
REPORT = StepReport(0.0, Load(), None)


@dataclass
class Rounds:
    """What a stream came to: its output, and what was drafted, behind which output."""

    output: tuple[int, ...] = ()
    drafted: list[tuple[tuple[int, ...], int]] = field(default_factory=list)
    verified: int = 0
    accepted: int = 0


def run(name: str, opening: Opening, draft: TableRunner, recent: tuple[int, ...]) -> Rounds:
    """All rounds of a stream: have all drafts, have them verified, and tell what was decided."""
    engine, outputs, rounds = SteppedEngine(draft), RecentOutputs(), Rounds()
    outputs.add("", recent)
    proposed: list[Proposal | PacelineError] = []
    drafter = DRAFTERS[name].load()(context(opening, proposed.append, engine, outputs))
    engine.open(drafter)
    verdicts: list[Verdict | PromptLogprobs | PacelineError] = []
    target, cache = Verification(opening, verdicts.append), TokenCache()
    advance = Advance(len(opening.prompt_token_ids), (), LOOKAHEAD, ngram_lookahead=LOOKAHEAD)
    while not target.finished:
        drafter.advance(advance)
        while engine.step():
            pass
        path = opening.prompt_token_ids + rounds.output
        drafted = tuple(drafter.ahead.tokens[len(path) :])
        rounds.drafted += [
            (rounds.output + drafted[:index], token) for index, token in enumerate(drafted)
        ]
        target.ask(Verify(Proposal(len(path), TokenPath(path).digest, drafted)))
        if (span := target.plan(cache.length)) is None:
            break
        [logits] = TARGET.forward([(cache, span)])
        target.commit(span, logits, REPORT)
        verdict = verdicts.pop()
        assert isinstance(verdict, Verdict)
        rounds.output += verdict.token_ids
        rounds.verified += verdict.verified
        rounds.accepted += verdict.accepted
        advance = replace(advance, position=len(path), token_ids=verdict.token_ids)
    return rounds


def may_come(token: int, output: tuple[int, ...], sampling: SamplingParams) -> bool:
    allowed = not sampling.allowed_token_ids or token in sampling.allowed_token_ids
    words = sampling.bad_words_token_ids
    return allowed and not any((*output, token)[-len(word) :] == word for word in words)


tokens = st.lists(st.integers(0, VOCABULARY - 1), min_size=1, max_size=8).map(tuple)


@pytest.mark.parametrize("name", DRAFTERS)
@pytest.mark.parametrize("draft", [TARGET, OTHER])
@given(
    prompt=tokens,
    recent=tokens,
    sampling=sampling_params(VOCABULARY),
    seed=st.integers(0, 2**64 - 1),
    stop=st.sampled_from([frozenset[int](), frozenset({0})]),
)
def test_the_output_is_as_without_a_draft_and_drafts_keep_to_its_rules(
    name: str,
    draft: TableRunner,
    prompt: tuple[int, ...],
    recent: tuple[int, ...],
    sampling: SamplingParams,
    seed: int,
    stop: frozenset[int],
) -> None:
    assume(not stop.issuperset(sampling.allowed_token_ids or range(VOCABULARY)))
    opening = Opening("test", prompt * 2, sampling, seed, 16, stop_token_ids=stop)
    rounds = run(name, opening, draft, recent * 2)
    assert rounds.output == decode_alone(TARGET, opening)
    if name == "model" and draft is TARGET:
        assert rounds.accepted == rounds.verified
    if name == "ngram":
        assert all(may_come(token, output, sampling) for output, token in rounds.drafted)
