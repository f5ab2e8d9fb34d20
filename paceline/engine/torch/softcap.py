"""Attention with capped scores, as Gemma 2 has it: in blocks of keys, by online softmax.

scaled_dot_product_attention cannot cap. Here each block of keys is of one size and so is each of
queries, so that a row has the same bits however many keys follow (Milakov and Gimelshein 2018).
"""

import torch
from torch import Tensor


def capped_attention(
    query: Tensor,
    keys: Tensor,
    values: Tensor,
    mask: Tensor | None,
    scaling: float | None,
    softcap: float,
    block: int,
) -> Tensor:
    """[heads, rows, dim] over [heads, length, dim] to [heads, rows, dim of values].

    mask: additive, [rows, length] or nothing. Scores x become softcap * tanh(x / softcap) before
    it. block: keys at a time. In float32, or float64 where the model is.
    """
    dtype = torch.float64 if query.dtype == torch.float64 else torch.float32
    asked = query.to(dtype) * (query.shape[-1] ** -0.5 if scaling is None else scaling)
    best = asked.new_full((*asked.shape[:2], 1), torch.finfo(dtype).min)
    total = torch.zeros_like(best)
    out = asked.new_zeros(*asked.shape[:2], values.shape[-1])
    for at in range(0, keys.shape[1], block):
        part = slice(at, at + block)
        scores = torch.bmm(asked, keys[:, part].to(dtype).transpose(1, 2))
        scores = softcap * torch.tanh(scores / softcap)
        if mask is not None:
            scores = scores + mask[:, part].to(dtype)
        top = torch.maximum(best, scores.amax(-1, keepdim=True))
        weights, fade = torch.exp(scores - top), torch.exp(best - top)
        total = total * fade + weights.sum(-1, keepdim=True)
        out = out * fade + torch.bmm(weights, values[:, part].to(dtype))
        best = top
    return (out / total).to(query.dtype)
