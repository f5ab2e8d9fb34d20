"""The target's session: whatever is proposed, and however it is stepped, its tokens are its own."""

import math

import numpy as np
import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule

from paceline.engine.interfaces import StepReport
from paceline.engine.sampling.history import History
from paceline.errors import Internal, PacelineError, Unavailable
from paceline.protocol.proposal import Proposal
from paceline.protocol.sampling import SamplingParams
from paceline.protocol.session import Load, Opening
from paceline.protocol.token_path import TokenPath
from paceline.protocol.verdict import Origin, PromptLogprobs, Verdict, Verify
from target_server.deciding import verify
from target_server.verification import Verification
from tests.strategies import sampling_params
from tests.table_model import TableRunner, TokenCache, decode_alone

VOCABULARY = 5
REPORT = StepReport(0.25, Load(sessions=1), None)
openings = st.builds(
    Opening,
    request_id=st.just("test"),
    prompt_token_ids=st.lists(st.integers(0, VOCABULARY - 1), min_size=1, max_size=4).map(tuple),
    sampling=sampling_params(VOCABULARY),
    seed=st.integers(0, 2**64 - 1),
    max_tokens=st.integers(1, 24),
    stop_token_ids=st.sampled_from([frozenset[int](), frozenset({0})]),
)


class VerificationMachine(RuleBasedStateMachine):
    """Append, truncate, advance: proposals right, wrong and stale, prompts cut anywhere."""

    @initialize(opening=openings, model=st.integers(0, 9), resumed=st.integers(0, 30))
    def open(self, opening: Opening, model: int, resumed: int) -> None:
        self.runner = TableRunner(VOCABULARY, model)
        self.expected = decode_alone(self.runner, opening)
        resumed = min(resumed, len(self.expected) - 1)
        opening = Opening(
            **{
                **{name: getattr(opening, name) for name in opening.__slots__},
                "output_token_ids": self.expected[:resumed],
            }
        )
        self.prompt = opening.prompt_token_ids
        self.output = list(opening.output_token_ids)
        self.verdicts: list[Verdict | PromptLogprobs | PacelineError] = []
        self.verification = Verification(opening, self.verdicts.append)
        self.cache = TokenCache()
        self.owed = 0

    def ask(self, verify: Verify) -> None:
        self.verification.ask(verify)
        self.owed = 1 + verify.continue_steps

    @rule(continue_steps=st.integers(0, 3))
    def ask_for_target_only_steps(self, continue_steps: int) -> None:
        self.ask(Verify(None, continue_steps))

    @rule(
        back=st.integers(0, 3),
        right=st.integers(0, 5),
        wrong=st.lists(st.integers(0, VOCABULARY - 1), max_size=3),
        continue_steps=st.integers(0, 2),
    )
    def propose(self, back: int, right: int, wrong: list[int], continue_steps: int) -> None:
        """From `back` tokens before the end: `right` tokens of the true output, then others."""
        start = max(0, len(self.output) - back)
        base = TokenPath(self.prompt + tuple(self.output[:start]))
        run = (*self.expected[start : start + right], *wrong)
        self.ask(Verify(Proposal(len(base), base.digest, run), continue_steps))

    @rule()
    def lose_kv(self) -> None:
        """The engine needs it for others."""
        self.cache = TokenCache()

    @rule(digest=st.integers(0, 2**64 - 1), run=st.lists(st.integers(0, VOCABULARY - 1)))
    def propose_off_the_path(self, digest: int, run: list[int]) -> None:
        position = len(self.prompt) + len(self.output)
        self.ask(Verify(Proposal(position, digest, tuple(run)), 0))

    @rule(chunk=st.integers(1, 4))
    def run_a_piece(self, chunk: int) -> None:
        """The engine takes only the head of the span this time."""
        span = self.verification.plan(self.cache.length)
        if span is not None:
            self.cache.truncate(span.position)
            if chunk < len(span.token_ids):
                self.runner.forward([(self.cache, span.head(chunk))])

    @rule()
    def step(self) -> None:
        span = self.verification.plan(self.cache.length)
        over = len(self.output) == len(self.expected)
        assert (span is None) == (self.owed == 0 or over)
        if span is None:
            return
        [logits] = self.runner.forward([(self.cache, span)])
        known = self.prompt + tuple(self.output)
        assert tuple(self.cache.tokens[: len(known)]) == known
        self.verification.commit(span, logits, REPORT)
        self.owed -= 1
        verdict = self.verdicts.pop()
        assert isinstance(verdict, Verdict)
        self.check(verdict, drafts=span.token_ids[len(span.token_ids) - span.logit_rows + 1 :])

    def check(self, verdict: Verdict, drafts: tuple[int, ...]) -> None:
        assert verdict.position == len(self.prompt) + len(self.output)
        self.output += verdict.token_ids
        assert tuple(self.output) == self.expected[: len(self.output)]
        assert verdict.token_ids[: verdict.accepted] == drafts[: verdict.accepted]
        assert verdict.accepted <= verdict.verified <= len(drafts)
        own = len(verdict.token_ids) - verdict.accepted
        assert own == 1 or (own == 0 and len(self.output) == len(self.expected))


TestVerification = VerificationMachine.TestCase


def decided(drafts: tuple[int, ...], stop: frozenset[int] = frozenset()) -> list[int]:
    runner = TableRunner(VOCABULARY, seed=1)
    opening = Opening("test", (1,), SamplingParams(temperature=0), 0, 9, stop_token_ids=stop)
    tokens = [1]
    rows = [runner.logits(tokens)]
    for draft in drafts:
        tokens.append(draft)
        rows.append(runner.logits(tokens))
    return verify(rows, drafts, opening, History([1]))  # type: ignore[arg-type]


def test_verify_accepts_recovers_and_adds_a_bonus() -> None:
    truth = decode_alone(
        TableRunner(VOCABULARY, seed=1), Opening("test", (1,), SamplingParams(temperature=0), 0, 4)
    )
    assert decided(()) == list(truth[:1])
    assert decided(truth[:3]) == list(truth)
    wrong = (truth[0], (truth[1] + 1) % VOCABULARY, truth[2])
    assert decided(wrong) == list(truth[:2])


def test_nothing_comes_after_a_stop_token() -> None:
    truth = decode_alone(
        TableRunner(VOCABULARY, seed=1), Opening("test", (1,), SamplingParams(temperature=0), 0, 4)
    )
    stop = frozenset({truth[1]})
    first = truth.index(truth[1])
    assert decided(truth[:3], stop) == list(truth[: first + 1])


@pytest.mark.parametrize(
    ("verified", "accepted", "tokens", "origins"),
    [
        (0, 0, (1,), (Origin.TARGET_ONLY,)),
        (2, 2, (1, 2, 3), (Origin.ACCEPTED, Origin.ACCEPTED, Origin.BONUS)),
        (2, 1, (1, 2), (Origin.ACCEPTED, Origin.RECOVERED)),
        (2, 0, (1,), (Origin.RECOVERED,)),
        (1, 1, (1,), (Origin.ACCEPTED,)),
    ],
)
def test_origins(
    verified: int, accepted: int, tokens: tuple[int, ...], origins: tuple[Origin, ...]
) -> None:
    verdict = Verdict(position=0, token_ids=tokens, verified=verified, accepted=accepted)
    assert verdict.origins() == origins


def test_a_failure_is_delivered() -> None:
    delivered: list[Verdict | PromptLogprobs | PacelineError] = []
    opening = Opening("test", (1,), SamplingParams(), 0, 4)
    error = Unavailable("the engine has stopped")
    Verification(opening, delivered.append).fail(error)
    assert delivered == [error]


@pytest.mark.parametrize("logit", [math.nan, -math.inf])
def test_a_model_without_a_number_ends_the_stream(logit: float) -> None:
    """No token is made up: not that of NaN, nor one of a row that rules all out."""
    opening = Opening("test", (1,), SamplingParams(temperature=0), 0, 9, stop_token_ids=frozenset())
    row = np.array([logit, 2.0, math.nan, math.inf])
    assert verify(row[None, :2], (), opening, History((1,))) == [1]
    assert verify(row[None], (), opening, History((1,))) == [3]
    with pytest.raises(Internal, match="the model's logits at position 1 are no numbers"):
        verify(np.full((1, 4), logit), (), opening, History((1,)))
