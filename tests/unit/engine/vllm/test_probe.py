"""What is said of rows that differ."""

from paceline.engine.vllm.probe import Tried, summary


def test_rows_that_differ_are_counted_and_the_largest_difference_told() -> None:
    tried = [Tried("1 at a time alone behind 16 tokens", 0.4375), Tried("4 at a time", 0.03125)]
    assert summary(tried, 18) == "rows differ in 2 of 18 ways to compute them, by up to 0.44"
    assert str(tried[0]) == "1 at a time alone behind 16 tokens: by up to 0.44"
