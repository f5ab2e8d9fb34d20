"""The sampler, against its definition and against the exact distribution."""

import math
from collections import Counter
from itertools import product

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import stats

from paceline.engine.sampling import sampler
from paceline.engine.sampling.history import History
from paceline.engine.sampling.sampler import (
    NOISE_SPAN,
    apply_filters,
    gumbel,
    noise_hash,
    pick,
    pick_with_second,
)
from paceline.protocol.sampling import SamplingParams
from tests.strategies import sampling_params
from tests.table_model import TableRunner

VOCABULARY = 12
STOP = frozenset({3, 7})

rows = st.lists(
    st.one_of(st.floats(-30, 30), st.sampled_from([0.0, 1.0, 1.5])),
    min_size=VOCABULARY,
    max_size=VOCABULARY,
)
tokens = st.lists(st.integers(0, VOCABULARY - 1), max_size=8)


def may_come(token: int, params: SamplingParams, output: list[int]) -> bool:
    """By what holds whatever else is left."""
    too_short = len(output) < params.min_tokens and token in STOP
    return not too_short and (not params.allowed_token_ids or token in params.allowed_token_ids)


def defined(
    row: list[float], params: SamplingParams, seed: int, prompt: list[int], output: list[int]
) -> int:
    """The definition, id by id, without optimizations."""
    scores = list(row)
    for token in range(VOCABULARY):
        if token in prompt or token in output:
            factor = params.repetition_penalty
            scores[token] = scores[token] / factor if scores[token] > 0 else scores[token] * factor
        if token in output:
            scores[token] -= params.presence_penalty + params.frequency_penalty * output.count(
                token
            )
        scores[token] += params.logit_bias.get(token, 0.0)
        if not may_come(token, params, output):
            scores[token] = -math.inf
    without_bad = [
        -math.inf
        if any([*output, token][-len(word) :] == [*word] for word in params.bad_words_token_ids)
        else score
        for token, score in enumerate(scores)
    ]
    scores = without_bad if max(without_bad) > -math.inf else scores
    if params.temperature == 0:
        return max(range(VOCABULARY), key=lambda token: (scores[token], -token))
    scores = [score / params.temperature for score in scores]
    order = sorted(range(VOCABULARY), key=lambda token: (-scores[token], token))
    order = [token for token in order if scores[token] >= scores[order[0]] - NOISE_SPAN]
    if params.top_k:
        order = order[: params.top_k]
    if params.min_p:
        order = [t for t in order if scores[t] >= scores[order[0]] + math.log(params.min_p)]
    if params.top_p < 1:
        best = scores[order[0]]
        weights = np.array([math.exp(scores[token] - best) for token in order])
        order = order[: int(np.searchsorted(np.cumsum(weights), params.top_p * weights.sum())) + 1]
    noise = gumbel(noise_hash(seed, len(prompt) + len(output), np.arange(VOCABULARY)))
    return max(sorted(order), key=lambda token: (scores[token] + noise[token], -token))


@given(rows, sampling_params(VOCABULARY), st.integers(0, 2**64 - 1), tokens, tokens)
def test_pick_is_the_formula(
    row: list[float], params: SamplingParams, seed: int, prompt: list[int], output: list[int]
) -> None:
    assume(any(may_come(token, params, output) for token in range(VOCABULARY)))  # else refused
    history = History(prompt, output)
    picked = pick(np.array(row), params, seed, history, STOP)
    assert picked == defined(row, params, seed, prompt, output)
    assert pick_with_second(np.array(row), params, seed, history, STOP)[0] == picked


@given(rows, st.integers(0, 2**64 - 1))
def test_a_large_vocabulary_prunes_only_what_cannot_win(row: list[float], seed: int) -> None:
    """Thousands of unlikely ids, so that the hash decides which of them contend."""
    wide = np.concatenate([np.array(row), np.full(20_000, min(row) - 11.0)])
    noise = gumbel(noise_hash(seed, 0, np.arange(wide.size)))
    expected = int((wide + noise).argmax())
    assert pick(wide, SamplingParams(), seed, History(()), ()) == expected


def test_ties_go_to_the_lowest_id() -> None:
    row = np.array([0.0, 5.0, 5.0, 5.0])
    assert pick(row, SamplingParams(temperature=0), 0, History(()), ()) == 1
    np.testing.assert_array_equal(apply_filters(row, SamplingParams(top_k=2)), [1, 2])


def test_noise_stays_within_its_bounds() -> None:
    extremes = gumbel(np.array([0, 2**32 - 1], np.uint32))
    assert sampler.NOISE_MAX > extremes[0] > 22.8
    assert sampler.NOISE_MIN < extremes[1] < -3.1
    assert sampler.NOISE_MAX - sampler.NOISE_MIN < NOISE_SPAN


def test_noise_is_gumbel_distributed() -> None:
    sample = gumbel(noise_hash(1, 2, np.arange(200_000)))
    assert stats.kstest(sample, stats.gumbel_r.cdf).pvalue > 1e-3


def test_the_margin_is_that_of_the_two_best_scores() -> None:
    row = np.array([1.0, 4.0, 2.5, -50.0])
    assert pick_with_second(row, SamplingParams(temperature=0), 0, History(()), ()) == (1, 1.5, 2)
    alone = SamplingParams(top_k=1)
    assert pick_with_second(row, alone, 0, History(()), ()) == (1, NOISE_SPAN, None)


@given(rows, sampling_params(VOCABULARY), st.integers(0, 2**64 - 1), tokens)
def test_the_second_best_is_what_is_picked_where_the_best_is_ruled_out(
    row: list[float], params: SamplingParams, seed: int, output: list[int]
) -> None:
    history = History((), output)
    ids, scores = sampler.noisy_scores(np.array(row), params, seed, history, STOP)
    best, _, second = pick_with_second(np.array(row), params, seed, history, STOP)
    rest = {int(one): score for one, score in zip(ids, scores, strict=True) if one != best}
    assert second == max(rest, key=lambda one: (rest[one], -one), default=None)


def test_the_logits_are_left_alone() -> None:
    row = np.arange(4.0)
    params = SamplingParams(repetition_penalty=2.0, logit_bias={1: 5.0})
    pick(row, params, 0, History([3], [2]), ())
    np.testing.assert_array_equal(row, np.arange(4.0))


def picked(output: list[int], *bad_words: tuple[int, ...]) -> int:
    """Of four equal tokens, the first one that may come."""
    params = SamplingParams(temperature=0, bad_words_token_ids=bad_words)
    return pick(np.zeros(4), params, 0, History([0, 1], output), ())


def test_a_bad_word_is_not_completed_and_may_be_begun() -> None:
    assert picked([], (0, 1, 2)) == picked([0], (0, 1, 2)) == 0
    assert picked([3, 0, 1], (0, 1, 0)) == 1
    assert picked([0, 1], (0, 1, 0), (1, 1), (2,)) == 3


def test_a_bad_word_that_the_prompt_began_may_be_completed() -> None:
    """As in vLLM: it is looked for in the output."""
    assert picked([], (1, 0)) == 0
    assert picked([1], (1, 0)) == 1


def test_bad_words_that_leave_no_token_do_not_hold() -> None:
    assert picked([2], (0,), (1,), (2, 2), (3,)) == 0
    assert picked([1], (0,), (1,), (2, 2), (3,)) == 2


SMALL = 4
SEEDS = 6_000


def joint_of_three(runner: TableRunner) -> NDArray[np.float64]:
    """Exact probability of each of SMALL**3 outputs of three tokens, in product's order."""
    joint = []
    for output in product(range(SMALL), repeat=3):
        probability = 1.0
        for index, token in enumerate(output):
            logits = runner.logits([0, *output[:index]])
            probability *= float(np.exp(logits[token]) / np.exp(logits).sum())
        joint.append(probability)
    return np.array(joint)


def chi_square_pvalue(runner: TableRunner) -> float:
    """Of the joint of three consecutive tokens over seeds 0 to SEEDS - 1 against the exact one."""
    counts: Counter[tuple[int, ...]] = Counter()
    for seed in range(SEEDS):
        history = History([0])
        output: list[int] = []
        for _ in range(3):
            token = pick(runner.logits([0, *output]), SamplingParams(), seed, history, ())
            history.append(token)
            output.append(token)
        counts[tuple(output)] += 1
    observed = np.array([counts[output] for output in product(range(SMALL), repeat=3)], float)
    expected = joint_of_three(runner) * SEEDS
    # Cells that expect fewer than 10 go together: the statistic is chi-square only in the limit.
    rare = expected < 10
    observed = np.append(observed[~rare], observed[rare].sum())
    expected = np.append(expected[~rare], expected[rare].sum())
    return float(stats.chisquare(observed, expected * observed.sum() / expected.sum()).pvalue)


@pytest.mark.parametrize("model", range(3))
def test_three_tokens_have_the_targets_joint_distribution(model: int) -> None:
    assert chi_square_pvalue(TableRunner(SMALL, seed=model)) > 1e-3


def test_noise_used_twice_does_not_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    """The test above has the power to see one position's noise reused at the next."""
    right = sampler.noise_hash
    monkeypatch.setattr(
        sampler, "noise_hash", lambda seed, position, ids: right(seed, min(position, 2), ids)
    )
    assert chi_square_pvalue(TableRunner(SMALL, seed=0)) < 1e-9
