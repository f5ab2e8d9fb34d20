"""Weights in 4 bits as quantized.h has them: a scale and a low for each group of inputs."""

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from paceline.engine.compiled.shape import GROUP, WIDTH

LEVELS = 15
_RANGES = (1.0, 0.95, 0.9, 0.85, 0.8)
"""Parts of a group's range that are tried: cut ends can cost less than wide steps."""
_ROWS = 64 * WIDTH
"""Quantized at once, so that little memory is needed beside the weights."""


def packed(weight: Tensor) -> Tensor:
    """[blocks, groups, bytes of a piece] of a weight [out, in]; outputs are filled up with zeros.

    in is a multiple of GROUP.
    """
    return torch.cat([_pieces(*quantized(rows)) for rows in filled(weight).split(_ROWS)])


def filled(outputs: Tensor) -> Tensor:
    """[out] or [out, in] with zeros behind, so that out is a multiple of WIDTH."""
    return functional.pad(outputs, (0, 0) * (outputs.dim() - 1) + (0, -outputs.shape[0] % WIDTH))


def quantized(weight: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Codes [out, groups, GROUP] as uint8, scales and lows [out, groups] as float16.

    The weight is code * scale + low; each group has the range with the least squared error.
    """
    groups = weight.float().reshape(weight.shape[0], -1, GROUP)
    low, high = groups.amin(2), groups.amax(2)
    best = _coded(groups, low, high)
    for part in _RANGES[1:]:
        tried = _coded(groups, low * part, high * part)
        better = tried.error < best.error
        best = _Coded(
            torch.where(better, tried.error, best.error),
            torch.where(better[..., None], tried.codes, best.codes),
            torch.where(better, tried.scales, best.scales),
            torch.where(better, tried.lows, best.lows),
        )
    return best.codes.to(torch.uint8), best.scales, best.lows


class _Coded(NamedTuple):
    """Groups, and the squared error of each."""

    error: Tensor
    codes: Tensor
    scales: Tensor
    lows: Tensor


def _coded(groups: Tensor, low: Tensor, high: Tensor) -> _Coded:
    """Groups with codes from `low` to `high`; scales and lows as float16 has them."""
    scales = ((high - low) / LEVELS).clamp(min=1e-7).half()
    lows = low.half()
    wide, from_low = scales.float()[..., None], lows.float()[..., None]
    codes = ((groups - from_low) / wide).round_().clamp_(0, LEVELS)
    error = (codes * wide + from_low - groups).square().sum(2)
    return _Coded(error, codes, scales, lows)


def _pieces(codes: Tensor, scales: Tensor, lows: Tensor) -> Tensor:
    """In the order of quantized.h."""
    out, groups, _ = codes.shape
    blocks = out // WIDTH
    halves = codes.view(blocks, 4, 16, groups, 4, 2, 4)
    pairs = halves[..., 0, :] | (halves[..., 1, :] << 4)
    lines = pairs.permute(0, 3, 1, 4, 2, 5).reshape(blocks, groups, -1)
    return torch.cat((lines, _beside(scales, blocks), _beside(lows, blocks)), 2)


def _beside(numbers: Tensor, blocks: int) -> Tensor:
    """[out, groups] of float16 as [blocks, groups, bytes]."""
    by_group = numbers.view(blocks, WIDTH, -1).transpose(1, 2).contiguous()
    return by_group.view(torch.uint8).view(blocks, by_group.shape[1], -1)
