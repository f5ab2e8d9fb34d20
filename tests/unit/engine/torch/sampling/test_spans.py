"""Target and draft decide the same, whether they get picks or logits."""

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from draft_server.drafters.sampling import DraftSampler
from paceline.engine.interfaces import PickingRunner, Span, StepReport
from paceline.engine.sampling.history import History
from paceline.engine.sampling.requests import Pick
from paceline.engine.torch.attention import Spans
from paceline.engine.torch.padding import NO_PADDING
from paceline.engine.torch.runner import ModelRunner
from paceline.errors import PacelineError
from paceline.protocol.proposal import Proposal
from paceline.protocol.sampling import SamplingParams
from paceline.protocol.session import Load, Opening
from paceline.protocol.token_path import TokenPath
from paceline.protocol.verdict import PromptLogprobs, Verdict, Verify
from target_server.verification import Verification
from tests.conftest import DEVICE
from tests.strategies import sampling_params
from tests.unit.engine.torch.sampling.test_picks import assert_same_logprobs

VOCABULARY = 11
TABLE = torch.from_numpy(np.random.default_rng(0).normal(0, 2, (VOCABULARY, VOCABULARY)))
REPORT = StepReport(0.25, Load(sessions=1), None)


def runner(*, picks: bool) -> ModelRunner:
    """Whose logits depend on the token before alone."""
    table = TABLE.float().to(DEVICE)

    def forward(tokens: Tensor, _: Tensor, spans: Spans, wanted: Tensor) -> Tensor:
        return table[tokens[wanted]]

    return ModelRunner(forward, torch.device(DEVICE), NO_PADDING, picks=picks)


def verdicts(opening: Opening, runs: list[list[int]], *, picks: bool) -> list[Verdict]:
    """Of rounds that propose these runs, to the end of the output."""
    given_out: list[Verdict | PromptLogprobs | PacelineError] = []
    verification, model = Verification(opening, given_out.append), runner(picks=picks)
    cache, path = model.new_cache(), TokenPath(opening.prompt_token_ids)
    while not verification.finished:
        run = tuple(runs.pop(0) if runs else ())
        verification.ask(Verify(Proposal(len(path), path.digest, run) if run else None))
        while span := verification.plan(cache.length):
            [rows] = model.forward_and_pick([(cache, span)])
            verification.commit(span, rows, REPORT)
        last = given_out[-1]
        assert isinstance(last, Verdict)
        path.extend(last.token_ids)
    return [one for one in given_out if isinstance(one, Verdict)]


runs = st.lists(st.lists(st.integers(0, VOCABULARY - 1), max_size=4), max_size=12)


@settings(deadline=None)
@given(
    sampling_params(VOCABULARY),
    st.integers(0, 2**64 - 1),
    st.none() | st.integers(0, 3),
    st.none() | st.integers(0, 3),
    runs,
)
def test_verdicts_are_the_same(
    params: SamplingParams,
    seed: int,
    logprobs: int | None,
    prompt_logprobs: int | None,
    proposals: list[list[int]],
) -> None:
    opening = Opening(
        *("test", (1, 2, 3), params, seed, 20),
        stop_token_ids=frozenset({0}),
        logprobs=logprobs,
        prompt_logprobs=prompt_logprobs,
    )
    found = verdicts(opening, [*proposals], picks=True)
    wanted = verdicts(opening, [*proposals], picks=False)
    for one, other in zip(found, wanted, strict=True):
        assert (one.token_ids, one.verified) == (other.token_ids, other.verified)
        assert one.accepted == other.accepted
        for its, theirs in zip(one.logprobs, other.logprobs, strict=True):
            assert_same_logprobs(its, theirs)


@settings(deadline=None)
@given(sampling_params(VOCABULARY), st.integers(0, 2**64 - 1))
def test_draft_tokens_are_the_same(params: SamplingParams, seed: int) -> None:
    sampler = DraftSampler(Opening("test", (1, 2, 3), params, seed, 20))
    history, tokens = History((1, 2, 3)), [1, 2, 3]
    device, host = runner(picks=True), runner(picks=False)
    for length in range(3, 20):
        span = sampler.span(0, tokens[:length], history)
        [[pick]] = device.forward_and_pick([(device.new_cache(), span)])
        [logits] = host.forward([(host.new_cache(), span)])
        assert isinstance(pick, Pick)
        found, wanted = sampler.pick(pick, history), sampler.pick(logits[0], history)
        assert (found.id, found.second) == (wanted.id, wanted.second)
        assert abs(found.confidence - wanted.confidence) < 1e-9
        tokens.append(found.id)
        history.append(found.id)


def test_one_step_has_picks_and_logits() -> None:
    """A piece of a prompt, a stream that says what to pick, and one whose logits are wanted."""
    model: PickingRunner = runner(picks=True)
    history, opening = History((1,)), Opening("test", (1,), SamplingParams(temperature=0), 0, 9)
    asking = DraftSampler(opening).span(0, [1], history)
    spans = [Span(0, (4, 5), 0), Span(0, (2, 3), 2), asking]
    piece, logits, picks = model.forward_and_pick([(model.new_cache(), span) for span in spans])
    assert len(piece) == 0
    np.testing.assert_array_equal(np.asarray(logits), TABLE.float()[[2, 3]].numpy())
    assert picks[0].token == int(TABLE[1].argmax())
