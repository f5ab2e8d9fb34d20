"""Simulated models: what is stated is what they do."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.serving.text.tokenizer import TargetTokenizer
from paceline.engine.interfaces import Span
from paceline.engine.simulated import VOCABULARY_SIZE, SimulatedModel, SimulatedRunner, _tokenizer
from paceline.errors import InvalidArgument
from paceline.protocol.hashing import mix

FREE = "simulated:step_ms=0"


@pytest.mark.parametrize("acceptance", [0.0, 0.3, 0.85, 1.0])
def test_draft_tokens_are_right_as_often_as_stated_and_surer_when_they_are(
    acceptance: float,
) -> None:
    draft = SimulatedModel.parse(f"simulated:acceptance={acceptance}")
    right: list[float] = []
    wrong: list[float] = []
    for position in range(4000):
        path = mix(7, position)
        token, margin = draft.draft_token(path, position)
        (right if token == draft.truth(path) else wrong).append(margin)
    assert len(right) / 4000 == pytest.approx(acceptance, abs=0.02)
    if right and wrong:
        above = sum(good > bad for good in right[:300] for bad in wrong[:300])
        auc = above / (len(right[:300]) * len(wrong[:300]))
        assert auc == pytest.approx(draft.auc, abs=0.05)


def test_acceptance_can_turn_with_the_position() -> None:
    draft = SimulatedModel.parse("simulated:acceptance=0.9/0.1,phase_tokens=100")
    assert [draft.chance(at) for at in (0, 99, 100, 199, 200)] == [0.9, 0.9, 0.1, 0.1, 0.9]


@given(st.lists(st.integers(0, VOCABULARY_SIZE - 1), min_size=1, max_size=12), st.integers(0, 11))
def test_a_row_does_not_depend_on_how_its_tokens_were_cut(tokens: list[int], cut: int) -> None:
    for drafts in (True, False):
        runner = SimulatedRunner(SimulatedModel.parse(FREE), drafts=drafts)
        whole = runner.forward([(runner.new_cache(), Span(0, tuple(tokens), len(tokens)))])[0]
        cache, at = runner.new_cache(), min(cut, len(tokens) - 1)
        if at:
            runner.forward([(cache, Span(0, tuple(tokens[:at]), 0))])
        rest = runner.forward([(cache, Span(at, tuple(tokens[at:]), len(tokens) - at))])[0]
        assert (whole[at:] == rest).all()


def test_streams_that_began_apart_stay_apart() -> None:
    runner = SimulatedRunner(SimulatedModel.parse(FREE), drafts=False)
    caches = [runner.new_cache(), runner.new_cache()]
    outputs: list[list[int]] = [[1], [2]]
    for at in range(200):
        spans = [Span(at, (output[-1],), 1) for output in outputs]
        for output, logits in zip(
            outputs, runner.forward(list(zip(caches, spans, strict=True))), strict=True
        ):
            output.append(int(logits[0].argmax()))
    same = sum(one == other for one, other in zip(*outputs, strict=True))
    assert same < 40


@pytest.mark.parametrize(
    ("name", "field"),
    [
        ("simulated:speed=1", "simulated:speed"),
        ("simulated:step_ms=-1", "simulated:step_ms"),
        ("simulated:acceptance=1.5", "simulated:acceptance"),
        ("simulated:step_ms=fast", "simulated:step_ms"),
    ],
)
def test_what_cannot_be_is_refused_by_name(name: str, field: str) -> None:
    with pytest.raises(InvalidArgument, match=field):
        SimulatedModel.parse(name)


def test_its_tokenizer_takes_any_text_and_gives_it_back() -> None:
    tokenizer = TargetTokenizer(_tokenizer())
    text = "Grüße, 日本!"
    ids = tokenizer.encode(text)
    assert max(ids) < VOCABULARY_SIZE
    detokenizer = tokenizer.detokenizer()
    assert "".join(detokenizer.step(token) for token in ids) + detokenizer.flush() == text


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("simulated:step_ms=x", "simulated:step_ms is 'x'; it must be a number from 0 to 60000"),
        ("simulated:step_ms", "simulated:step_ms is ''; it must be a number from 0 to 60000"),
        ("simulated:auc=1", "simulated:auc is '1'; it must be a number between 0.5 and 1"),
        (
            "simulated:seed=-1",
            "simulated:seed is '-1'; it must be a whole number from 0 to 2147483647",
        ),
        (
            "simulated:acceptance=0.5/2",
            "simulated:acceptance is '2'; it must be a number from 0 to 1, or several with / "
            "between them",
        ),
        (
            "simulated:stp_ms=25",
            "simulated:stp_ms is no parameter; did you mean step_ms (a number from 0 to 60000)?",
        ),
        (
            "simulated:int5",
            "simulated:int5 is no parameter; there are step_ms (a number from 0 to 60000), "
            "token_ms (a number from 0 to 60000), acceptance (a number from 0 to 1, or several "
            "with / between them), phase_tokens (a whole number from 1 to 32768), auc (a number "
            "between 0.5 and 1), second_acceptance (a number from 0 to 1), seed (a whole number "
            "from 0 to 2147483647)",
        ),
    ],
)
def test_what_is_stated_wrongly_is_named_with_what_it_may_be(name: str, said: str) -> None:
    with pytest.raises(InvalidArgument) as raised:
        SimulatedModel.parse(name)
    assert str(raised.value) == said
