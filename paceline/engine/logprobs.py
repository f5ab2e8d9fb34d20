"""Logprobs: log-softmax of the target's raw logits, before penalties, temperature and filters."""

import numpy as np
from numpy.typing import NDArray

from paceline.engine.work import Logits
from paceline.session import TokenLogprob, TokenLogprobs


def token_logprobs(row: Logits, token: int, count: int) -> TokenLogprobs:
    """Of `token`, and of the `count` best ones, from a row [vocabulary]; computed in float64.

    The best come first, ties by id.
    """
    scores = row.astype(np.float64)
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
    """As the wire carries it, so that a value is the same on both ends."""
    return float(np.float32(value))
