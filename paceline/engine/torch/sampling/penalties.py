"""Penalties, bias and what rules ids out, of all rows at once: sampler.penalize and its repair.

The same roundings in the same order, so that a logit has the bits that numpy gives it.
"""

from collections.abc import Callable, Iterable, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from paceline.engine.sampling.requests import PickRequest, RowHistory
from paceline.engine.sampling.sampler import clipped_factor
from paceline.engine.torch.sampling.transfer import to_device

AskedRow = tuple[PickRequest, RowHistory]
"""A row with what is asked of it."""
Entries = Iterable[tuple[NDArray[np.int64], NDArray[np.float64]]]
"""For each row: ids, and a number for each of them."""


def penalized(logits: Tensor, rows: Sequence[AskedRow]) -> Tensor:
    """Penalized logits that can be compared, [rows, vocabulary], of raw ones.

    Infinity is the largest number, what is no number is -inf. Where nothing is left, all ids that
    may come are equal. The logits themselves are left alone.
    """
    work = logits.clone()
    _repeat(work, rows)
    _subtract_counts(work, rows)
    _add_bias(work, rows)
    barred = _barred(work, rows)
    if barred is not None:
        work.masked_fill_(barred, -torch.inf)
    _bar_bad_words(work, rows)
    limits = torch.finfo(work.dtype)
    work.nan_to_num_(nan=-torch.inf, posinf=limits.max, neginf=-torch.inf)
    empty = work.amax(1, keepdim=True) == -torch.inf
    if barred is None:
        return work.masked_fill_(empty, 0.0)
    return torch.where(empty, torch.zeros_like(work).masked_fill_(barred, limits.min), work)


class _Entries:
    """Some ids of some rows, as indices into the flat logits, with a number for each."""

    def __init__(self, work: Tensor, entries: Entries) -> None:
        parts = [(row, ids, values) for row, (ids, values) in enumerate(entries) if ids.size]
        self.empty = not parts
        if parts:
            width = work.shape[1]
            flat = np.concatenate([ids + row * width for row, ids, _ in parts])
            self.at = to_device(flat, work.device)
            self.numbers = to_device(np.concatenate([one for *_, one in parts]), work.device)


def _change(work: Tensor, entries: Entries, change: Callable[[Tensor, Tensor], Tensor]) -> None:
    """Replace logits by what `change` makes of them and their numbers."""
    found = _Entries(work, entries)
    if not found.empty:
        flat = work.view(-1)
        flat[found.at] = change(flat[found.at], found.numbers).to(work.dtype)


def _repeat(work: Tensor, rows: Sequence[AskedRow]) -> None:
    def change(values: Tensor, factors: Tensor) -> Tensor:
        factors = factors.to(values.dtype)
        limits = torch.finfo(values.dtype)
        changed = torch.where(values > 0, values / factors, values * factors)
        return torch.where(values.isfinite(), changed.clamp(limits.min, limits.max), changed)

    factors = (clipped_factor(request.params.repetition_penalty) for request, _ in rows)
    pairs = zip(rows, factors, strict=True)
    _change(work, ((row.seen, _all(row.seen, factor)) for (_, row), factor in pairs), change)


def _subtract_counts(work: Tensor, rows: Sequence[AskedRow]) -> None:
    _change(
        work,
        ((row.output_ids, _of_counts(request, row)) for request, row in rows),
        lambda values, numbers: values.double() - numbers,
    )


def _of_counts(request: PickRequest, row: RowHistory) -> NDArray[np.float64]:
    params = request.params
    penalties: NDArray[np.float64] = params.frequency_penalty * row.output_counts.astype(np.float64)
    return params.presence_penalty + penalties


def _add_bias(work: Tensor, rows: Sequence[AskedRow]) -> None:
    biases = (request.params.logit_bias for request, _ in rows)
    _change(
        work,
        ((_ids(bias), np.array(list(bias.values()), np.float64)) for bias in biases),
        lambda values, numbers: values + numbers.to(values.dtype),
    )


def _barred(work: Tensor, rows: Sequence[AskedRow]) -> Tensor | None:
    """Ids that allowed_token_ids, constraint or min_tokens rule out; None where nothing does."""
    barring = [
        (index, request, row)
        for index, (request, row) in enumerate(rows)
        if request.params.allowed_token_ids or row.mask is not None or row.too_short
    ]
    if not barring:
        return None
    barred = torch.zeros(work.shape, dtype=torch.bool, device=work.device)
    masks = np.stack([_barred_ids(request, row, work.shape[1]) for _, request, row in barring])
    at = to_device(np.array([index for index, *_ in barring]), work.device)
    barred[at] = to_device(masks, work.device)
    return barred


def _barred_ids(request: PickRequest, row: RowHistory, vocabulary: int) -> NDArray[np.bool_]:
    left = np.ones(vocabulary, np.bool_)
    if request.params.allowed_token_ids:
        left[:] = False
        left[np.array(request.params.allowed_token_ids, np.int64)] = True
    if row.mask is not None:
        known = min(vocabulary, row.mask.size)
        left[:known] &= row.mask[:known]
        left[known:] = False
    if row.too_short:
        left[list(request.stop)] = False
    return ~left


def _bar_bad_words(work: Tensor, rows: Sequence[AskedRow]) -> None:
    """Rule out ids that would complete a bad word; none where no other is left."""
    bad = [np.array(row.bad, np.int64) for _, row in rows]
    found = _Entries(work, ((ids, _all(ids, 0.0)) for ids in bad))
    if not found.empty:
        rest = work.clone()
        rest.view(-1)[found.at] = -torch.inf
        left = (rest > -torch.inf).any(1, keepdim=True)
        work.copy_(torch.where(left, rest, work))


def _ids(token_ids: Iterable[int]) -> NDArray[np.int64]:
    return np.fromiter(token_ids, np.int64)


def _all(ids: NDArray[np.int64], number: float) -> NDArray[np.float64]:
    return np.full(ids.size, number)
