"""The sampler at the limits of its parameters and logits: it never fails, and is its definition.

The definition is computed in decimals of 60 digits, with unbounded exponents.
"""

import math
import warnings
from collections.abc import Iterator
from decimal import Context, Decimal, localcontext
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from paceline.engine.sampling.history import History
from paceline.engine.sampling.sampler import (
    NOISE_SPAN,
    Row,
    gumbel,
    noise_hash,
    pick,
    pick_with_second,
)
from paceline.protocol.sampling import SamplingParams
from tests.strategies import allowed_ids, bad_words

EXACT = Context(prec=60, Emin=-(10**9), Emax=10**9)
SMALLEST = 5e-324


def over(most: float, *edges: float) -> st.SearchStrategy[float]:
    """Floats over 0, to the smallest there is, and up to `most`."""
    return st.sampled_from((SMALLEST, 1e-310, most, *edges)) | st.floats(
        0.0, most, exclude_min=True
    )


biases = st.sampled_from([-100.0, 100.0, SMALLEST]) | st.floats(-100, 100)
penalties = st.sampled_from([0.0, -2.0, 2.0, SMALLEST, -0.0]) | st.floats(-2, 2)
factors = over(1.7e308, 1.0, 1e39, 1e300, 1e-46, 1e-300, 0.8, 1.3)


def params_of(vocabulary: int) -> st.SearchStrategy[SamplingParams]:
    """Everything that is let through."""
    ids = st.integers(0, vocabulary - 1)
    return st.builds(
        SamplingParams,
        temperature=st.sampled_from([0.0, -0.0, 1e-300, 1e-6, 1e-17, 1.0]) | over(100.0),
        top_k=st.sampled_from([0, 1, 2, 2**31, 2**32 - 1]),
        top_p=over(1.0, 0.9, 1e-17, math.nextafter(1, 0)),
        min_p=st.just(0.0) | over(1.0, 1e-320),
        repetition_penalty=factors,
        presence_penalty=penalties,
        frequency_penalty=penalties,
        logit_bias=st.dictionaries(ids, biases, max_size=vocabulary)
        | st.just(dict.fromkeys(range(vocabulary), -100.0)),
        min_tokens=st.sampled_from([0, 3, 2**32 - 1]),
        allowed_token_ids=allowed_ids(vocabulary),
        bad_words_token_ids=bad_words(vocabulary),
    )


Case = tuple[Row, SamplingParams, int, list[int], list[int], frozenset[int]]


@st.composite
def cases(draw: st.DrawFn, logits: st.SearchStrategy[float]) -> Case:
    """A row, parameters, seed, prompt, output and stop tokens, some of which may come."""
    vocabulary = draw(st.sampled_from([1, 2, 3, 8, 33]))
    kind = draw(st.sampled_from([np.float32, np.float64]))
    values = draw(st.lists(logits, min_size=vocabulary, max_size=vocabulary))
    params = draw(params_of(vocabulary))
    params.validate()
    ids = st.integers(0, vocabulary - 1)
    stop = draw(st.frozensets(ids, max_size=vocabulary - 1))
    assume(not stop.issuperset(params.allowed_token_ids or range(vocabulary)))
    seed = draw(st.sampled_from([0, 2**64 - 1]) | st.integers(0, 2**64 - 1))
    tokens = st.lists(ids, max_size=6)
    with np.errstate(over="ignore"):
        row = np.array(values, np.float64).astype(kind)
    return row, params, seed, draw(tokens), draw(tokens), stop


@pytest.fixture(autouse=True)
def no_warnings() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


anything = st.floats(allow_nan=True, allow_infinity=True)
usual = st.sampled_from([0.0, 1.0, -1.0, 12.5, -math.inf, math.nan]) | st.floats(-40, 40)


@settings(max_examples=400)
@given(cases(usual | anything))
def test_whatever_the_checks_let_through_a_token_is_picked_that_may_be(case: Case) -> None:
    row, params, seed, prompt, output, stop = case
    history = History(prompt, output)
    token, margin, second = pick_with_second(row, params, seed, history, stop)
    assert pick(row, params, seed, history, stop) == token
    assert 0.0 <= margin <= NOISE_SPAN
    allowed = [one for one in range(row.size) if may_come(one, params, output, stop)]
    possible = [one for one in allowed if row[one] > -math.inf] or allowed
    best = [one for one in possible if not is_bad(one, params, output) and row[one] > -math.inf]
    for one in (token, second):
        assert one is None or one in (best or possible)


def may_come(token: int, params: SamplingParams, output: list[int], stop: frozenset[int]) -> bool:
    """By what holds whatever else is left."""
    too_short = len(output) < params.min_tokens and token in stop
    return not too_short and (not params.allowed_token_ids or token in params.allowed_token_ids)


def is_bad(token: int, params: SamplingParams, output: list[int]) -> bool:
    """Whether it completes a bad word."""
    return any((*output, token)[-len(word) :] == word for word in params.bad_words_token_ids)


def penalized(case: Case) -> dict[int, Decimal]:
    """Logits, as the definition has them, of the tokens that may be taken."""
    row, params, _, prompt, output, stop = case
    scores: dict[int, Decimal] = {}
    for token in range(row.size):
        score = Decimal(float(row[token]))
        if token in prompt or token in output:
            factor = Decimal(params.repetition_penalty)
            score = score / factor if score > 0 else score * factor
        if token in output:
            score -= Decimal(params.presence_penalty)
            score -= Decimal(params.frequency_penalty) * output.count(token)
        score += Decimal(params.logit_bias.get(token, 0.0))
        if may_come(token, params, output, stop):
            scores[token] = score
    good = {one: score for one, score in scores.items() if not is_bad(one, params, output)}
    return good or scores


def defined(case: Case, scores: dict[int, Decimal]) -> tuple[int, list[Decimal]]:
    """The formula's token, and how far apart is what it compares, in units of the noise."""
    row, params, seed, prompt, output, _ = case
    order = sorted(scores, key=lambda token: (-scores[token], token))
    if params.greedy:
        return order[0], []
    best = scores[order[0]]
    scaled = {token: (scores[token] - best) / Decimal(params.temperature) for token in order}
    order = [token for token in order if scaled[token] >= -Decimal(NOISE_SPAN)]
    if params.top_k:
        order = order[: params.top_k]
    gaps: list[Decimal] = []
    if params.min_p:
        least = Decimal(params.min_p).ln()
        gaps += [abs(scaled[token] - least) for token in order if scaled[token]]
        order = [token for token in order if scaled[token] >= least]
    if params.top_p < 1:
        weights = [scaled[token].exp() for token in order]
        sums = [sum(weights[: end + 1], Decimal(0)) for end in range(len(order))]
        wanted = Decimal(params.top_p) * sums[-1]
        gaps += [abs(total - wanted) / sums[-1] for total in sums[:-1]]
        order = order[: 1 + next(index for index, total in enumerate(sums) if total >= wanted)]
    noise = gumbel(noise_hash(seed, len(prompt) + len(output), np.arange(row.size)))
    noisy = {token: scaled[token] + Decimal(float(noise[token])) for token in sorted(order)}
    first, *rest = sorted(noisy.values(), reverse=True)
    return max(noisy, key=lambda token: noisy[token]), [*gaps, *(first - one for one in rest[:1])]


def seen_apart(scores: dict[int, Decimal], least: float) -> bool:
    """Whether logits that differ still do when rounded."""
    ordered = sorted(scores.values())
    return all(
        one == other or other - one > Decimal(least) * (100 + abs(one))
        for one, other in pairwise(ordered)
    )


@settings(max_examples=300, suppress_health_check=[HealthCheck.filter_too_much])
@given(cases(st.sampled_from([0.0, 1.0, -1.0, 12.5]) | st.floats(-40, 40, width=32)))
def test_what_is_picked_is_the_definition(case: Case) -> None:
    row, params, seed, prompt, output, stop = case
    with localcontext(EXACT):
        scores = penalized(case)
        rounding = 1e-6 if row.dtype == np.float32 else 1e-14
        assume(seen_apart(scores, rounding))
        expected, gaps = defined(case, scores)
        assume(min(gaps, default=Decimal(1)) > Decimal(1e4 * rounding))
    assert pick(row, params, seed, History(prompt, output), stop) == expected
