"""Weights in 4 bits: a scale and a zero for each group of inputs. For drafts only."""

from dataclasses import dataclass

import torch
from torch import Tensor

from paceline.engine.openvino.shape import GROUP

LEVELS = 15
_RANGES = (1.0, 0.95, 0.9, 0.85, 0.8, 0.75)
"""Parts of a group's range that are tried: cut ends can cost less than wide steps."""
_ROWS = 4096
"""Quantized at once, so that little memory is needed beside the weights."""


@dataclass(frozen=True, slots=True)
class Quantized:
    """A weight [out, in]: (codes - zeros) * scales.

    codes: two in a byte, the first in its lower half, [out, groups, GROUP / 2]. zeros: likewise,
    [out * groups / 2]. scales: float16, [out, groups, 1].
    """

    codes: Tensor
    scales: Tensor
    zeros: Tensor


def quantize(weight: Tensor) -> Quantized:
    """Each group by the range that has the least squared error. weight: [out, in]."""
    parts = [_quantize(rows) for rows in weight.split(_ROWS)]
    codes, scales, zeros = (torch.cat(part) for part in zip(*parts, strict=True))
    return Quantized(_packed(codes), scales, _packed(zeros.flatten()))


def _quantize(weight: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Codes [out, groups, GROUP], scales and zeros [out, groups, 1]."""
    groups = weight.float().reshape(weight.shape[0], -1, GROUP)
    low = groups.amin(2, keepdim=True).clamp(max=0)
    high = groups.amax(2, keepdim=True).clamp(min=0)
    best = _coded(groups, low, high)
    for part in _RANGES[1:]:
        tried = _coded(groups, low * part, high * part)
        better = tried[0] < best[0]
        best = tuple(torch.where(better, new, old) for new, old in zip(tried, best, strict=True))  # type: ignore[assignment]
    _, codes, scales, zeros = best
    return codes.to(torch.uint8), scales.half(), zeros.to(torch.uint8)


def _coded(groups: Tensor, low: Tensor, high: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Squared error of each group, its codes, scales as float16 has them, and zeros."""
    scales = ((high - low) / LEVELS).clamp(min=1e-6).half().float()
    zeros = torch.round(-low / scales).clamp(0, LEVELS)
    codes = torch.round(groups / scales + zeros).clamp(0, LEVELS)
    error = ((codes - zeros) * scales - groups).square().sum(2, keepdim=True)
    return error, codes, scales, zeros


def _packed(codes: Tensor) -> Tensor:
    """Two in a byte."""
    return codes[..., 0::2] | (codes[..., 1::2] << 4)
