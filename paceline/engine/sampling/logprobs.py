"""Logprobs: log-softmax of the target's raw logits, before penalties, temperature and filters."""

import math

import numpy as np
from numpy.typing import NDArray

from paceline.engine.sampling.sampler import Row, finite
from paceline.protocol.verdict import TokenLogprob, TokenLogprobs


def token_logprobs(row: Row, token: int, count: int) -> TokenLogprobs:
    """Of `token`, and of the `count` best ones, from a row [vocabulary]; computed in float64.

    The best come first, ties by id. Where no token has a number all are equal, as in the sampler.
    """
    scores = row.astype(np.float64)
    if not math.isfinite(scores.max()):
        scores = finite(scores).astype(np.float64)
        scores = scores if scores.max() > -np.inf else np.zeros_like(scores)
    with np.errstate(over="ignore"):  # too far below the best for a number: minus infinity
        scores -= scores.max()
    scores -= np.log(np.exp(scores).sum())
    top = tuple(TokenLogprob(int(id_), _float32(scores[id_])) for id_ in _best(scores, count))
    return TokenLogprobs(_float32(scores[token]), top)


def _best(scores: NDArray[np.float64], count: int) -> NDArray[np.int64]:
    """Ids of the `count` best scores."""
    count = min(count, scores.size)
    if count == 0:
        return np.array([], np.int64)
    likely = np.flatnonzero(scores >= np.partition(scores, -count)[-count])
    return likely[np.argsort(-scores[likely], kind="stable")][:count]


def _float32(value: float) -> float:
    """Rounded as on the wire, so that both ends have the same value."""
    with np.errstate(over="ignore"):
        return float(np.float32(value))
