"""Which spans share a step."""

from hypothesis import given
from hypothesis import strategies as st

from paceline.engine.core.batching import PROMPT_SHARE, fill_batch
from paceline.engine.interfaces import Span, SpanBranch

spans = st.lists(st.tuples(st.integers(1, 30), st.integers(0, 6)), max_size=12)


def test_branches_count_as_rows_and_go_with_the_last_piece() -> None:
    branches = (SpanBranch(40, (1, 2)), SpanBranch(41, (3,)))
    block = Span(40, (0, 0, 0), 3, branches=branches)
    assert (block.rows, block.wanted_rows, block.end) == (6, 6, 43)
    assert fill_batch([("block", block)], 6) == [("block", block)]
    assert fill_batch([("block", block)], 5) == []
    prompt = Span(0, (0,) * 43, 3, branches=branches)
    assert (prompt.rows, prompt.wanted_rows, prompt.end) == (46, 6, 43)
    assert fill_batch([("prompt", prompt)], 46) == [("prompt", prompt)]
    assert fill_batch([("prompt", prompt)], 45) == [("prompt", Span(0, (0,) * 40, 0))]
    assert fill_batch([("prompt", prompt)], 9) == [("prompt", Span(0, (0,) * 9, 0))]
    assert Span(40, (0,), 1, branches=(SpanBranch(40, (1, 2, 3)),)).end == 43


@given(spans, st.integers(1, 40))
def test_a_schedule_keeps_to_its_budget_and_serves_short_spans_first(
    wanted: list[tuple[int, int]], budget: int
) -> None:
    asked = [
        (key, Span(0, (0,) * rows, min(rows, logit_rows)))
        for key, (rows, logit_rows) in enumerate(wanted)
    ]
    step = fill_batch(asked, budget)
    assert sum(len(span.token_ids) for _, span in step) <= budget
    by_key = dict(asked)
    for key, span in step:
        whole = by_key[key]
        assert span == whole or (
            span.logit_rows == 0 and len(span.token_ids) < len(whole.token_ids)
        )
    prompts = {key for key, span in asked if len(span.token_ids) > 2 * span.logit_rows}
    left_out = by_key.keys() - dict(step).keys()
    if step and prompts & dict(step).keys():
        used = sum(len(span.token_ids) for key, span in step if key not in prompts)
        room = budget - budget // PROMPT_SHARE - used
        assert all(len(by_key[key].token_ids) > room for key in left_out - prompts)
    if prompts and budget >= PROMPT_SHARE:
        assert prompts & dict(step).keys(), "blocks never keep prompts out"
