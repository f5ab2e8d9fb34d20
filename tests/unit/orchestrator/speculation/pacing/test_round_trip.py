"""What a far draft keeps of its speed-up: the figures of benchmarks.round_trip."""

from benchmarks.round_trip import cells, speeds, world


def test_a_draft_far_away_keeps_some_of_its_speed_up() -> None:
    [(at_hand, away)] = speeds(world(25.0, 2.5, 0.6, branches=False), 0.0205, 300, seeds=1)
    assert 1.2 < away < at_hand < 2.5


def test_medians_are_told_with_the_range_of_what_is_kept() -> None:
    assert list(cells([(2.0, 1.0), (4.0, 3.0), (2.5, 2.0)])) == ["2.50", "2.00", "0.80 (0.50-0.80)"]
