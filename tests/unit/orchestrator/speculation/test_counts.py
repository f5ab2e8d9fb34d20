"""Counts of streams as verdicts come, whole and by place in the round."""

import pytest

from orchestrator.speculation.counts import Tally
from orchestrator.speculation.measurements import RecentPlaces
from paceline.protocol.proposal import Drafter
from paceline.protocol.verdict import Verdict


def verdict(verified: int, accepted: int) -> Verdict:
    return Verdict(0, tuple(range(accepted + 1)), verified=verified, accepted=accepted)


def test_a_tally_counts_tokens_rounds_and_places() -> None:
    tally = Tally()
    for verified, accepted in ((3, 3), (3, 1), (1, 0), (0, 0)):
        tally.observe(verdict(verified, accepted))
    tally.drafted[Drafter.MODEL] += 10
    assert (tally.tokens, tally.rounds, tally.plain_steps) == (8, 3, 1)
    assert (tally.verified, tally.accepted, tally.wasted) == (7, 4, 6)
    assert tally.verified_by_place == (3, 2, 2)
    assert tally.accepted_by_place == (2, 1, 1)
    assert sum(tally.accepted_by_place) == tally.accepted


def test_recent_places_are_shares_and_old_rounds_fade() -> None:
    places = RecentPlaces()
    assert places.rate is None
    assert not places.rates
    places.observe(verdict(2, 1))
    places.observe(verdict(2, 2))
    assert places.rate == 0.75
    assert places.rates == (1.0, 0.5)
    for _ in range(5000):
        places.observe(verdict(2, 0))
    assert places.rate == pytest.approx(0.0, abs=0.001)
