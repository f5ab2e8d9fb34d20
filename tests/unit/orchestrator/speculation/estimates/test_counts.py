"""Counts of streams as verdicts come, whole and by draft position."""

import pytest

from orchestrator.speculation.estimates.counts import PoolCounts
from orchestrator.speculation.estimates.measurements import DraftMeasurements
from paceline.protocol.proposal import Drafter
from paceline.protocol.verdict import Verdict


def verdict(verified: int, accepted: int) -> Verdict:
    return Verdict(0, tuple(range(accepted + 1)), verified=verified, accepted=accepted)


def test_tokens_rounds_and_draft_positions_are_counted() -> None:
    counts = PoolCounts()
    for verified, accepted in ((3, 3), (3, 1), (1, 0), (0, 0)):
        counts.observe(verdict(verified, accepted))
    counts.drafted[Drafter.MODEL] += 10
    assert (counts.tokens, counts.rounds, counts.target_only_steps) == (8, 3, 1)
    assert (counts.verified, counts.accepted, counts.wasted) == (7, 4, 6)
    assert counts.verified_by_position == (3, 2, 2)
    assert counts.accepted_by_position == (2, 1, 1)
    assert sum(counts.accepted_by_position) == counts.accepted


def test_recent_acceptance_is_by_draft_position_and_old_rounds_fade() -> None:
    measurements = DraftMeasurements()
    recent = measurements.recent
    assert recent.acceptance_rate is None
    assert not recent.acceptance_by_position
    measurements.observe_round(verdict(2, 1))
    measurements.observe_round(verdict(2, 2))
    assert recent.acceptance_rate == 0.75
    assert recent.acceptance_by_position == (1.0, 0.5)
    for _ in range(5000):
        measurements.observe_round(verdict(2, 0))
    assert recent.acceptance_rate == pytest.approx(0.0, abs=0.001)
