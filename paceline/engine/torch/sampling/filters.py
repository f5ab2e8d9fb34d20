"""top-k, min-p and top-p, of many rows at once: sampler.apply_filters."""

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from paceline.engine.torch.sampling.transfer import to_device
from paceline.protocol.sampling import SamplingParams

_WEIGHT = 2.0**44
"""A weight of 1, in whole numbers: those of 2^18 ids add up in 63 bits, in any order alike."""


def keep_filtered(scores: Tensor, row: Tensor, params: Sequence[SamplingParams]) -> Tensor:
    """Scores [rows, vocabulary] with -inf for those that the filters leave out, or that have it.

    What a filter keeps is always a head of the scores in order, ties by ascending id. row: the
    logits that scores are made of. Those of float32 have the same order, and half the digits to
    sort by.
    """
    keys = row if row.dtype == torch.float32 else scores
    ids = torch.sort(keys, dim=1, descending=True, stable=True).indices
    order = scores.gather(1, ids)
    kept = _top_k_and_min_p(order, params)
    if any(one.top_p < 1.0 for one in params):
        kept = _top_p(order, kept, params)
    within = torch.arange(scores.shape[1], device=scores.device)[None] < kept
    keep = torch.zeros_like(within).scatter_(1, ids, within)
    return scores.masked_fill(~keep, -torch.inf)


def column(values: Sequence[float], device: torch.device) -> Tensor:
    """One number for each row, [rows, 1], float64."""
    return to_device(np.array(values, np.float64), device)[:, None]


def _top_k_and_min_p(order: Tensor, params: Sequence[SamplingParams]) -> Tensor:
    """How many scores these two leave, [rows, 1]."""
    width = order.shape[1]
    kept = (order > -torch.inf).sum(1, keepdim=True)
    most = column([min(one.top_k, width) or width for one in params], order.device)
    kept = torch.minimum(kept, most.long())
    if all(one.min_p == 0.0 for one in params):
        return kept
    far = column([math.log(one.min_p) if one.min_p else -math.inf for one in params], order.device)
    near = (order >= order[:, :1] + far).sum(1, keepdim=True)
    return torch.minimum(kept, near)


def _top_p(order: Tensor, kept: Tensor, params: Sequence[SamplingParams]) -> Tensor:
    """How many of the first `kept` scores top-p leaves, [rows, 1].

    In whole numbers: how a device blocks a sum, and how many rows there are, changes nothing.
    """
    within = torch.arange(order.shape[1], device=order.device)[None] < kept
    weights = torch.exp(order - order[:, :1]).mul_(_WEIGHT).round_().long().mul_(within)
    sums = weights.cumsum(1)
    wanted = sums[:, -1:].double() * column([one.top_p for one in params], order.device)
    enough = (sums.double() < wanted).sum(1, keepdim=True) + 1
    all_of_them = column([one.top_p >= 1.0 for one in params], order.device) > 0
    return torch.where(all_of_them, kept, torch.minimum(enough, kept))
