"""Picks of all rows of a step on the device: sampler.pick_with_second, row for row.

Only what was picked crosses back, with the logprobs that were asked for, in one transfer: the one
time that a step waits for its device. Tokens are those of numpy. Only where two scores differ by
less than the last digits of a float64's logarithm, on the order of 1e-15, may another win.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from paceline.engine.sampling import sampler
from paceline.engine.sampling.requests import Pick, PickRequest
from paceline.engine.torch.sampling.filters import column, keep_filtered
from paceline.engine.torch.sampling.logprobs import top_logprobs
from paceline.engine.torch.sampling.noise import gumbel, noise_hash
from paceline.engine.torch.sampling.penalties import AskedRow, penalized
from paceline.engine.torch.sampling.transfer import to_device
from paceline.protocol.verdict import TokenLogprob, TokenLogprobs

MOST_ROWS = 64
"""Rows at a time: each takes several times its logits in float64 meanwhile."""


@torch.inference_mode()
def pick_rows(logits: Tensor, requests: Sequence[PickRequest]) -> list[list[Pick]]:
    """What each request's rows give, of raw logits [rows, vocabulary] in the requests' order."""
    asked = [(request, row) for request in requests for row in request.rows]
    if len(asked) != len(logits):
        raise ValueError(f"{len(logits)} rows of logits for {len(asked)} that were asked for")
    groups = _groups(asked)
    parts = [_picked(_rows(logits, at), [asked[one] for one in at]) for at in groups]
    logprobs = _logprobs(logits, requests, parts, groups)
    return _unpacked(requests, groups, _across([part.packed() for part in parts] + logprobs))


@dataclass(frozen=True, slots=True)
class _Picked:
    """Of some rows, on the device; no_second: where `seconds` means nothing."""

    tokens: Tensor
    seconds: Tensor
    margins: Tensor
    no_second: Tensor
    numbers: Tensor

    def packed(self) -> Tensor:
        """All of it in float64, [rows, 5]: ids are exact in it."""
        parts = (self.tokens, self.seconds, self.margins, self.no_second, self.numbers)
        return torch.stack([part.double() for part in parts], dim=1)


def _groups(asked: Sequence[AskedRow]) -> list[list[int]]:
    """Rows that are picked together: greedy or not, with a wide penalty or not, MOST_ROWS each."""
    kinds: dict[tuple[bool, bool, bool], list[int]] = {}
    for index, (request, _) in enumerate(asked):
        params = request.params
        wide = sampler.is_wide(params.repetition_penalty)
        kinds.setdefault((params.greedy, params.filters, wide), []).append(index)
    return [
        rows[start : start + MOST_ROWS]
        for rows in kinds.values()
        for start in range(0, len(rows), MOST_ROWS)
    ]


def _rows(logits: Tensor, at: list[int]) -> Tensor:
    """Some rows; all of them, in their order, without a copy."""
    if at == list(range(len(logits))):
        return logits
    return logits[to_device(np.array(at), logits.device)]


def _picked(logits: Tensor, rows: Sequence[AskedRow]) -> _Picked:
    """Of rows of one kind."""
    raw = logits if logits.dtype == torch.float64 else logits.float()
    params = rows[0][0].params
    wide = raw.double() if sampler.is_wide(params.repetition_penalty) else raw
    row = penalized(wide, rows)
    scores = row if params.greedy else _noisy(row, rows)
    best, tokens = scores.max(1)
    rest = scores.scatter(1, tokens[:, None], -torch.inf)
    next_best, seconds = rest.max(1)
    margins = best.double() - next_best.double()
    far = sampler.NEAR if params.greedy else torch.inf
    no_second = (next_best == -torch.inf) | (margins > far)
    margins = torch.where(no_second, sampler.NOISE_SPAN, margins).clamp_(max=sampler.NOISE_SPAN)
    numbers = raw.gather(1, tokens[:, None])[:, 0] > -torch.inf
    return _Picked(tokens, seconds, margins, no_second, numbers)


def _noisy(row: Tensor, rows: Sequence[AskedRow]) -> Tensor:
    """Scores with noise, float64, of penalized logits; -inf for ids that cannot win."""
    scores = _scaled(row, [request.params.temperature for request, _ in rows])
    if rows[0][0].params.filters:
        scores = keep_filtered(scores, row, [request.params for request, _ in rows])
    seeds = [(request.seed, history.position) for request, history in rows]
    hashes = noise_hash(seeds, row.shape[1], row.device)
    near = scores >= scores.amax(1, keepdim=True) - sampler.NEAR
    contend = near | (hashes <= int(sampler.FAR_HASH))
    return scores.add_(gumbel(hashes)).masked_fill_(~contend, -torch.inf)


def _scaled(row: Tensor, temperatures: Sequence[float]) -> Tensor:
    """Logits by temperature, float64; -inf for those too far below the best to win."""
    spans = [sampler.NOISE_SPAN * one for one in temperatures]
    best = row.amax(1, keepdim=True)
    hopeless = row < best - column(spans, row.device).to(row.dtype)
    hot = column(temperatures, row.device)
    large = best.double().abs() > sampler.LARGE * hot
    scores = row.double().sub_(torch.where(large, best.double(), 0.0)).div_(hot)
    return scores.masked_fill_(hopeless, -torch.inf)


def _logprobs(
    logits: Tensor, requests: Sequence[PickRequest], parts: list[_Picked], groups: list[list[int]]
) -> list[Tensor]:
    """Those that were asked for, in the order of the requests."""
    if all(request.logprobs is None for request in requests):
        return []
    order = torch.cat([torch.tensor(group) for group in groups])
    tokens = torch.cat([part.tokens for part in parts])
    tokens = tokens[to_device(order.argsort().numpy(), logits.device)]
    found, start = [], 0
    for request in requests:
        rows = slice(start, start + len(request.rows))
        start = rows.stop
        if request.logprobs is not None:
            raw = logits[rows] if logits.dtype == torch.float64 else logits[rows].float()
            count = min(request.logprobs, raw.shape[1])
            found.append(top_logprobs(raw, tokens[rows], count))
    return found


def _across(parts: list[Tensor]) -> list[NDArray[np.float64]]:
    """All of it from the device, in one transfer."""
    flat = torch.cat([part.reshape(-1) for part in parts]).cpu().numpy()
    ends = np.cumsum([part.numel() for part in parts])
    pieces = np.split(flat, ends[:-1])
    return [piece.reshape(part.shape) for piece, part in zip(pieces, parts, strict=True)]


def _unpacked(
    requests: Sequence[PickRequest],
    groups: list[list[int]],
    numbers: list[NDArray[np.float64]],
) -> list[list[Pick]]:
    """The picks of each request."""
    rows = {
        row: values
        for group, part in zip(groups, numbers, strict=False)
        for row, values in zip(group, part.tolist(), strict=True)
    }
    logprobs = iter(numbers[len(groups) :])
    picks, start = [], 0
    for request in requests:
        of_request = [None] * len(request.rows) if request.logprobs is None else next(logprobs)
        picks.append([_pick(rows[start + index], one) for index, one in enumerate(of_request)])
        start += len(request.rows)
    return picks


def _pick(values: list[float], logprobs: NDArray[np.float64] | None) -> Pick:
    token, second, margin, no_second, is_number = values
    return Pick(
        int(token),
        margin,
        None if no_second else int(second),
        bool(is_number),
        None if logprobs is None else _token_logprobs(logprobs.tolist()),
    )


def _token_logprobs(values: list[float]) -> TokenLogprobs:
    own, *rest = values
    ids, theirs = rest[: len(rest) // 2], rest[len(rest) // 2 :]
    pairs = zip(ids, theirs, strict=True)
    return TokenLogprobs(own, tuple(TokenLogprob(int(id_), value) for id_, value in pairs))
