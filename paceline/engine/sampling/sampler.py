"""The sampler: one function of (logits, parameters, seed, history) for draft and target.

pick = argmax(filter(penalize(logits) / temperature) + gumbel(seed, position)); ties go to the
lowest id.

The noise is shared: the draft applies the same noise to its own logits, so that it often picks the
target's token, and the output does not depend on the draft (Daliri et al. 2024, arXiv 2408.07978).
There is no generator state to save or to lose.
"""

import math
from collections.abc import Iterable
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from paceline.engine.sampling.history import History
from paceline.engine.sampling.matcher import Mask
from paceline.protocol.hashing import mix
from paceline.protocol.sampling import SamplingParams

SAMPLER_VERSION = 1
"""Part of the fingerprint: raise it with every change that can change a token."""

Row = NDArray[np.floating]
Ids = NDArray[np.int64]
Scores = NDArray[np.float64]

NOISE_MIN, NOISE_MAX = -3.14, 22.88
"""Bounds of gumbel()."""
NOISE_SPAN = 26.1
"""More than the noise spans: an id whose scaled logit is further below the best cannot win."""
NEAR = 10.0
"""How far below the best an id is near it: one beyond wins only with a hash up to FAR_HASH."""
FAR_HASH = np.uint32(-math.expm1(-math.exp(-(NEAR + NOISE_MIN))) * 2**32)
LARGE = 1e9
"""Scaled logits beyond it lose the noise in rounding."""
_FACTORS, _LARGEST_FACTOR = (1e-6, 1e6), 1e260


def pick(row: Row, params: SamplingParams, seed: int, history: History, stop: Iterable[int]) -> int:
    """Token for the position after `history`, from its raw logits, [vocabulary]."""
    if params.greedy:  # the same result, without the candidates near the best
        return _best(penalize(row, params, history, stop), params, history, stop)
    ids, scores = noisy_scores(row, params, seed, history, stop)
    return int(ids[scores.argmax()])


def pick_with_second(
    row: Row, params: SamplingParams, seed: int, history: History, stop: Iterable[int]
) -> tuple[int, float, int | None]:
    """As pick, with the margin of its noisy score over the second best, and the id of that.

    The margin is at most NOISE_SPAN; with no second that can win it is NOISE_SPAN, and the id None.
    """
    if params.greedy:
        return _two_best(_finite_best(penalize(row, params, history, stop), params, history, stop))
    ids, scores = noisy_scores(row, params, seed, history, stop)
    best = int(scores.argmax())
    if scores.size == 1:
        return int(ids[best]), NOISE_SPAN, None
    rest = scores.copy()
    rest[best] = -np.inf
    second = int(rest.argmax())
    return int(ids[best]), min(float(scores[best] - scores[second]), NOISE_SPAN), int(ids[second])


def _two_best(row: Row) -> tuple[int, float, int | None]:
    """Of pick_with_second, without noise."""
    best = int(row.argmax())
    parts = (row[:best], 0), (row[best + 1 :], best + 1)
    others = [int(part.argmax()) + start for part, start in parts if part.size]
    second = max(others, key=row.__getitem__, default=best)
    margin = float(row[best]) - float(row[second])
    return (best, margin, second) if margin <= NEAR and others else (best, NOISE_SPAN, None)


def noisy_scores(
    row: Row, params: SamplingParams, seed: int, history: History, stop: Iterable[int]
) -> tuple[Ids, Scores]:
    """The ids that can win, ascending, and their scores, float64.

    `stop` are the ids that min_tokens forbids.
    """
    row = _finite_best(penalize(row, params, history, stop), params, history, stop)
    best = row.max()
    if params.greedy:
        ids = np.flatnonzero(row >= best - NEAR)
        return ids, row[ids].astype(np.float64)
    ids = np.flatnonzero(row >= best - NOISE_SPAN * params.temperature)
    scores = row[ids].astype(np.float64)
    if abs(float(best)) > LARGE * params.temperature:  # the noise would be lost in rounding
        scores -= best
    scores /= params.temperature
    if params.filters:
        kept = apply_filters(scores, params)
        ids, scores = ids[kept], scores[kept]
    hashes = noise_hash(seed, len(history), ids)
    # An id far below the best wins only with a large noise, that is a small hash: the
    # logarithms are needed for few of a large vocabulary.
    contend = (scores >= scores.max() - NEAR) | (hashes <= FAR_HASH)
    return ids[contend], scores[contend] + gumbel(hashes[contend])


def _best(row: Row, params: SamplingParams, history: History, stop: Iterable[int]) -> int:
    best = int(row.argmax())  # the first NaN, where there is one
    return best if math.isfinite(row[best]) else int(_repaired(row, params, history, stop).argmax())


def _finite_best(row: Row, params: SamplingParams, history: History, stop: Iterable[int]) -> Row:
    """Penalized logits, changed where the best of them is not finite."""
    return row if math.isfinite(row.max()) else _repaired(row, params, history, stop)


def _repaired(row: Row, params: SamplingParams, history: History, stop: Iterable[int]) -> Row:
    """As _finite_best, for a row whose best is infinite or not a number.

    What is not a number is never picked. Where nothing is left, all ids that allowed_token_ids, the
    constraint and min_tokens allow are equal.
    """
    row = finite(row)
    if row.max() == -np.inf:
        least = float(np.finfo(row.dtype).min)
        row = _held(_allowed(np.zeros_like(row), params, least), history.mask, least)
        if history.output_tokens < params.min_tokens:
            row[list(stop)] = least
    return row


def finite(row: Row) -> Row:
    """Logits with the largest number instead of infinity, and -inf instead of NaN."""
    return np.minimum(np.where(np.isnan(row), -np.inf, row), np.finfo(row.dtype).max)


def penalize(row: Row, params: SamplingParams, history: History, stop: Iterable[int]) -> Row:
    """Logits after penalties, bias and what rules ids out: `row` itself when none applies."""
    too_short = history.output_tokens < params.min_tokens
    mask = history.mask
    if not (params.penalizes or params.logit_bias or params.forbids or too_short) and mask is None:
        return row
    row = row.copy()
    if params.repetition_penalty != 1.0:
        row = _penalize_seen(row, history.seen_ids(), params.repetition_penalty)
    ids, counts = history.output_counts()
    row[ids] -= params.presence_penalty + params.frequency_penalty * counts
    for token, bias in params.logit_bias.items():
        row[token] += bias
    row = _held(_allowed(row, params, -np.inf), mask, -np.inf)
    if too_short:
        row[list(stop)] = -np.inf
    return _without_bad_words(row, params, history)


def _allowed(row: Row, params: SamplingParams, other: float) -> Row:
    """Logits of the ids that allowed_token_ids has, and `other` for all others."""
    if not params.allowed_token_ids:
        return row
    ids = _as_ids(params.allowed_token_ids)
    only = np.full_like(row, other)
    only[ids] = row[ids]
    return only


def _held(row: Row, mask: Mask | None, other: float) -> Row:
    """Logits of the ids that the mask leaves, and `other` for all others, also beyond it."""
    if mask is None:
        return row
    only = np.full_like(row, other)
    known = min(row.size, mask.size)
    np.copyto(only[:known], row[:known], where=mask[:known])
    return only


@lru_cache(maxsize=16)
def _as_ids(token_ids: tuple[int, ...]) -> Ids:
    return np.array(token_ids, np.int64)


def _without_bad_words(row: Row, params: SamplingParams, history: History) -> Row:
    """Logits without ids that would complete a bad word; all where no other has a number."""
    bad = params.bad_after(history.output)
    if not bad:
        return row
    rest = row.copy()
    rest[bad] = -np.inf
    return rest if (rest > -np.inf).any() else row


def _penalize_seen(row: Row, ids: Ids, factor: float) -> Row:
    """Repetition penalty. `row` itself is changed; for a wide factor, a float64 copy."""
    if is_wide(factor):
        row = row.astype(np.float64)
    factor = clipped_factor(factor)
    values = row[ids]
    with np.errstate(over="ignore"):
        changed = np.where(values > 0, values / factor, values * factor)
    limits = np.finfo(row.dtype)  # what was finite stays finite
    row[ids] = np.where(np.isfinite(values), changed.clip(limits.min, limits.max), changed)
    return row


def is_wide(factor: float) -> bool:
    """Whether a repetition penalty needs float64."""
    least, most = _FACTORS
    return not least <= factor <= most


def clipped_factor(factor: float) -> float:
    """A repetition penalty within bounds beyond which larger ones change nothing.

    Penalized logits are already out of reach of all others.
    """
    return min(max(factor, 1 / _LARGEST_FACTOR), _LARGEST_FACTOR)


def apply_filters(scores: Scores, params: SamplingParams) -> Ids:
    """Indices, ascending, of the scores that top-k, min-p and top-p leave, in this order.

    Each leaves the best ones, equal ones by ascending id; probabilities are renormalized
    over what the filter before it left. The best score always stays.
    """
    kept = np.arange(scores.size)
    if 0 < params.top_k < scores.size:
        kept = _top_k(scores, params.top_k)
    if params.min_p > 0.0:
        kept = kept[scores[kept] >= scores.max() + math.log(params.min_p)]
    if params.top_p < 1.0:
        kept = kept[_top_p(scores[kept], params.top_p)]
    return kept


def _top_k(scores: Scores, k: int) -> Ids:
    last = np.partition(scores, -k)[-k]
    better = np.flatnonzero(scores > last)
    ties = np.flatnonzero(scores == last)[: k - better.size]
    return np.union1d(better, ties)


def _top_p(scores: Scores, p: float) -> Ids:
    weights = np.exp(scores - scores.max())
    total = weights.sum()
    # What this leaves out weighs less than 1 - p: top-p never takes it, so it is not sorted.
    likely = np.flatnonzero(weights > (1.0 - p) * total / weights.size)
    if not likely.size:  # p is lost in rounding, and all are equal
        return np.array([scores.argmax()])
    order = likely[np.argsort(-scores[likely], kind="stable")]
    count = np.searchsorted(np.cumsum(weights[order]), p * total) + 1
    return np.sort(order[:count])


def gumbel(hashes: NDArray[np.uint32]) -> Scores:
    """Gumbel noise, float64, within NOISE_MIN and NOISE_MAX, of uniform 32-bit hashes.

    In float32 a uniform can round to 1 and its noise to infinity.
    """
    uniform = (hashes + 0.5) / 2.0**32
    noise: Scores = -np.log(-np.log1p(-uniform))
    return noise


def noise_hash(seed: int, position: int, ids: Ids) -> NDArray[np.uint32]:
    """32-bit hashes of (seed, position, id): two rounds of lowbias32 (Wellons 2018), keyed."""
    key = mix(mix(0, seed), position)
    hashes = ids.astype(np.uint32) ^ np.uint32(key & 0xFFFFFFFF)
    return _lowbias32(_lowbias32(hashes) ^ np.uint32(key >> 32))


def _lowbias32(x: NDArray[np.uint32]) -> NDArray[np.uint32]:
    x = (x ^ (x >> np.uint32(16))) * np.uint32(0x7FEB352D)
    x = (x ^ (x >> np.uint32(15))) * np.uint32(0x846CA68B)
    return x ^ (x >> np.uint32(16))
