"""Recordings: packed and unpacked, counted, and replayed in virtual time."""

from pathlib import Path

import pytest

from paceline.errors import InvalidArgument
from paceline.protocol.proposal import Drafter, DraftToken
from paceline_tools.evaluation.prediction import Deployment, fixed, interpolated, predict, replay
from paceline_tools.evaluation.recording import (
    DraftCosts,
    RecordedOutput,
    Recording,
    Recordings,
    TargetCosts,
    load_recordings,
)
from paceline_tools.simulation.world import WRONG, truth

DRAFT_TOKENS = [
    DraftToken(truth(7), confidence=3.5),
    None,
    DraftToken(WRONG, confidence=0.25),
    DraftToken(truth(10), confidence=7.0, drafter=Drafter.NGRAM),
    DraftToken(WRONG, confidence=2.0, drafter=Drafter.NGRAM),
]
STEP, DRAFT, VERIFY_TOKEN, ROUND_TRIP = 0.1, 0.02, 0.001, 0.001


def recording(*outputs: RecordedOutput, draft_step: float = DRAFT) -> Recording:
    return Recording(
        target="t",
        candidate="c",
        drafter="model",
        shares_host=True,
        target_costs=TargetCosts(
            verify={0: STEP, 4: STEP + 4 * VERIFY_TOKEN},
            prompt_token=0.001,
            round_trip=0.0,
            verify_token=VERIFY_TOKEN,
        ),
        draft_costs=DraftCosts(
            step=draft_step, restart=draft_step + ROUND_TRIP, prompt_token=0.001
        ),
        outputs=outputs,
    )


def drafted(kind: str, signs: str, confidence: float = 4.0) -> RecordedOutput:
    made = sum(sign != "." for sign in signs)
    return RecordedOutput(
        kind=kind, prompt_tokens=10, draft_tokens=signs, confidences=(confidence,) * made
    )


def test_what_was_drafted_is_kept_and_read_again(tmp_path: Path) -> None:
    token_ids = [truth(position) for position in range(7, 12)]
    output = RecordedOutput.of("code", 7, DRAFT_TOKENS, token_ids)
    assert output.draft_tokens == "M.mNn"
    assert output.unpacked() == tuple(DRAFT_TOKENS)
    path = tmp_path / "recordings.json"
    Recordings(recordings=(recording(output),)).save(path)
    assert load_recordings(path) == (recording(output),)


def test_the_head_of_an_output_has_the_confidences_of_what_was_drafted_there() -> None:
    whole = RecordedOutput(
        kind="code", prompt_tokens=7, draft_tokens="M.nM", confidences=(3.0, 2.0, 1.0)
    )
    head = whole.head(3)
    assert (head.draft_tokens, head.confidences) == ("M.n", (3.0, 2.0))
    assert (head.kind, head.prompt_tokens) == ("code", 7)
    assert whole.head(9) == whole


def test_a_file_that_is_no_recording_is_named(tmp_path: Path) -> None:
    path = tmp_path / "other.json"
    for text in ("{}", "no json", '{"recordings": []}'):
        path.write_text(text)
        with pytest.raises(InvalidArgument, match=r"other\.json"):
            load_recordings(path)


def test_acceptance_is_of_what_was_drafted_by_kind_and_by_place() -> None:
    one = recording(drafted("code", "MMmM"), drafted("prose", "m..N"))
    assert one.kinds == ["code", "prose"]
    assert one.acceptance("code") == 3 / 4
    assert one.acceptance("prose") == 1 / 2
    assert one.coverage("prose") == 1 / 2
    assert one.acceptance() == 4 / 6
    # Rounds begin anywhere: MMmM, MmM, mM and M have a first draft token, the first two a second.
    assert one.by_position("code") == (3 / 4, 1 / 2, 0.0)


def test_a_step_that_was_not_measured_lies_between_those_that_were() -> None:
    costs = {0: 1.0, 4: 2.0, 8: 2.0}
    assert [interpolated(costs, draft_tokens) for draft_tokens in (0, 1, 4, 6, 16)] == [
        1,
        1.25,
        2,
        2,
        2,
    ]


def test_a_replay_takes_as_long_as_its_steps_and_waits() -> None:
    """All tokens right, length 4, in turns: 5 tokens for 4 drafted, a round trip and a step."""
    one = recording(drafted("code", "M" * 101))
    deployment = Deployment(shared=True)
    [alone] = replay(one, deployment, fixed(0))
    assert alone.seconds == pytest.approx(101 * STEP + 10 * 0.001)
    [run] = replay(one, deployment, fixed(4))
    a_round = 4 * DRAFT + ROUND_TRIP + STEP + 4 * VERIFY_TOKEN
    reading = 10 * 0.001
    expected = STEP + reading + reading + 20 * a_round
    assert run.seconds == pytest.approx(expected, rel=0.02)
    assert run.runs[0].lengths[1:] == [4] * 20


def test_what_does_not_pay_is_seen_and_held_back() -> None:
    good = predict(
        recording(drafted("code", "M" * 200), drafted("code", "M" * 200)), Deployment(True)
    )
    assert good.paced["all"] > 2.0
    assert good.best_length() >= 4
    bad = predict(recording(drafted("code", "m" * 200, confidence=0.1)), Deployment(True))
    assert bad.best_length() == 0
    assert bad.fixed[4]["all"] < 0.7
    assert bad.paced["all"] > 0.95


def test_a_draft_far_away_is_worth_less() -> None:
    one = recording(drafted("code", "MMMMm" * 40))
    near, far = (predict(one, Deployment(False, seconds)) for seconds in (0.0005, 0.1))
    assert near.paced["all"] > 1.2 * far.paced["all"]


def test_lookup_has_nothing_where_it_has_nothing_and_nobody_waits() -> None:
    one = recording(drafted("edit", ("." * 9 + "NNNNNNNNN") * 10), draft_step=0.0)
    lookup = one.model_copy(update={"drafter": "ngram"})
    [alone] = replay(lookup, Deployment(True), fixed(0))
    [run] = replay(lookup, Deployment(True), fixed(8))
    assert run.seconds < 0.75 * alone.seconds
    assert max(run.runs[0].lengths) == 8
