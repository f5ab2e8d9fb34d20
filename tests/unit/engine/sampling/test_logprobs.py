"""Logprobs, against torch's log-softmax, and against an enumerated order."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from paceline.engine.sampling.logprobs import token_logprobs

rows = st.lists(st.sampled_from([-3.0, -1.0, 0.0, 0.5, 2.0]), min_size=1, max_size=12)


@given(rows, st.data())
def test_the_best_come_first_and_ties_by_id(row: list[float], data: st.DataObject) -> None:
    token = data.draw(st.integers(0, len(row) - 1))
    count = data.draw(st.integers(0, 15))
    found = token_logprobs(np.array(row, np.float32), token, count)
    order = sorted(range(len(row)), key=lambda id_: (-row[id_], id_))[:count]
    assert [one.token_id for one in found.top] == order
    by_id = {one.token_id: one.logprob for one in found.top}
    assert by_id.get(token, found.logprob) == found.logprob


def test_they_are_the_log_softmax_of_the_raw_logits() -> None:
    row = np.random.default_rng(0).normal(0, 4, 1000).astype(np.float32)
    expected = torch.log_softmax(torch.tensor(row, dtype=torch.float64), 0)
    found = token_logprobs(row, 17, 20)
    assert found.logprob == np.float32(expected[17].item())
    assert math.isclose(
        sum(math.exp(one.logprob) for one in token_logprobs(row, 0, 1000).top), 1.0, rel_tol=1e-5
    )


anything = st.sampled_from([0.0, 1.0]) | st.floats(allow_nan=True, allow_infinity=True)


@pytest.mark.filterwarnings("error")
@given(st.lists(anything, min_size=1, max_size=6), st.booleans(), st.data())
def test_of_any_logits_they_are_numbers_up_to_0(
    row: list[float], wide: bool, data: st.DataObject
) -> None:
    """Or minus infinity, of what cannot be; the probabilities come to 1."""
    token = data.draw(st.integers(0, len(row) - 1))
    with np.errstate(over="ignore"):
        logits = np.array(row, np.float64) if wide else np.array(row).astype(np.float32)
    found = token_logprobs(logits, token, len(row))
    logprobs = [one.logprob for one in found.top]
    assert all(logprob <= 0 for logprob in (*logprobs, found.logprob))
    assert math.isclose(sum(math.exp(logprob) for logprob in logprobs), 1.0, rel_tol=1e-5)
