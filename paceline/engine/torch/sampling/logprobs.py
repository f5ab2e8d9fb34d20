"""Logprobs of many rows at once: paceline.engine.sampling.logprobs."""

import torch
from torch import Tensor


def top_logprobs(logits: Tensor, tokens: Tensor, count: int) -> Tensor:
    """Of raw rows [rows, vocabulary]: the token's, then the best `count` ids, then theirs.

    float64, [rows, 1 + 2 * count], rounded to float32; ids are exact in it. tokens: [rows].
    """
    scores = _log_softmax(logits)
    own = scores.gather(1, tokens[:, None])
    if count == 0:
        return own.float().double()
    best, ids = torch.sort(scores, dim=1, descending=True, stable=True)
    return torch.cat(
        (own.float().double(), ids[:, :count].double(), best[:, :count].float().double()), dim=1
    )


def _log_softmax(logits: Tensor) -> Tensor:
    most = torch.finfo(torch.float64).max
    scores = logits.double().nan_to_num(nan=-torch.inf, posinf=most, neginf=-torch.inf)
    best = scores.amax(1, keepdim=True)
    empty = best == -torch.inf
    scores = torch.where(empty, 0.0, scores - torch.where(empty, 0.0, best))
    return scores.sub_(_sum(scores.exp()).log_())


def _sum(x: Tensor) -> Tensor:
    """Sums of rows, [rows, 1], by halves: in the same order on all devices, however many rows."""
    while (width := x.shape[1]) > 1:
        half = (width + 1) // 2
        folded = x[:, :half].clone()
        folded[:, : width - half] += x[:, half:]
        x = folded
    return x
