"""Chances, against the shares they are learned of."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.speculation.estimates.acceptance import Calibration, StreamAcceptance
from paceline.averages import Share
from paceline.protocol.proposal import Drafter, DraftToken
from paceline.protocol.verdict import Verdict

SURE, UNSURE = DraftToken(0, 7.0, Drafter.MODEL), DraftToken(0, 0.1, Drafter.MODEL)


def judged(count: int, accepted: int) -> Verdict:
    return Verdict(0, (0,) * (accepted + 1), count, accepted)


def test_chances_come_to_the_shares_that_were_seen_and_scales_are_kept_apart() -> None:
    rng = random.Random(1)
    calibration = Calibration()
    for _ in range(2000):
        calibration.observe(SURE, rng.random() < 0.95)
        calibration.observe(UNSURE, rng.random() < 0.3)
    assert calibration.chance(SURE) == pytest.approx(0.95, abs=0.04)
    assert calibration.chance(UNSURE) == pytest.approx(0.3, abs=0.08)
    untouched = Calibration().chance(DraftToken(0, 7.0, Drafter.NGRAM))
    assert calibration.chance(DraftToken(0, 7.0, Drafter.NGRAM)) == untouched


def test_what_lies_behind_the_first_wrong_draft_token_says_nothing() -> None:
    calibration = Calibration()
    stream = StreamAcceptance(calibration)
    before = calibration.mean.weight
    stream.observe((SURE,) * 8, judged(8, accepted=2))
    assert calibration.mean.weight == pytest.approx(before + 3, rel=0.01)
    stream.observe((), judged(0, accepted=0))
    assert calibration.mean.weight == pytest.approx(before + 3, rel=0.01)


def test_a_stream_that_goes_worse_than_others_expects_less_and_leaves_them_alone() -> None:
    calibration = Calibration()
    others = StreamAcceptance(calibration)
    for _ in range(400):
        others.observe((SURE,), judged(1, accepted=1))
    worse = StreamAcceptance(calibration)
    for _ in range(40):
        worse.observe((SURE,), judged(1, accepted=0))
    assert worse.chance(SURE) < 0.5 < others.chance(SURE)
    assert worse.next_chance < 0.4 < others.next_chance


@given(st.lists(st.booleans(), max_size=60), st.floats(0, 1), st.floats(0.1, 10))
def test_a_share_stays_a_share(seen: list[bool], prior: float, weight: float) -> None:
    share = Share(prior, weight, memory=10.0)
    for one in seen:
        share.observe(one)
        assert 0.0 <= share.value <= 1.0
