"""What a fused layer does between its products."""

import functools
from collections.abc import Callable
from typing import Protocol

import torch
from torch import Tensor
from torch.nn import functional

from paceline.engine.torch.attention import Spans, attend

Normalize = Callable[..., Tensor]
"""As rms_norm."""


class LayerOperators(Protocol):
    """Of rows [rows, width]; each returns new tensors, but may write over what it is given."""

    def normalize(self, x: Tensor, weight: Tensor) -> Tensor:
        """RMSNorm of [rows, width] or [rows, heads, width]."""

    def add_and_normalize(self, x: Tensor, more: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
        """X + more, and its RMSNorm."""

    def rotate(self, heads: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        """Rotary position embedding (Su et al. 2021) of [rows, heads, dim].

        cos, sin: [rows, 1, dim]; sin of the first half is negated.
        """

    def gate(self, gate_up: Tensor) -> Tensor:
        """silu(gate) * up of [rows, 2 * width], to [rows, width]."""

    def attend(
        self,
        index: int,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        spans: Spans,
        window: int | None,
    ) -> Tensor:
        """Attention of layer `index`: query [rows, heads, dim], to [rows, heads * dim].

        key, value: [rows, kv_heads, dim], which each span's cache keeps. Rows of no span are zero.
        """


def rms_norm(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    """RMSNorm (Zhang and Sennrich 2019) of [..., width], in float32 as transformers does."""
    y = x.float()
    y = y * torch.rsqrt(y.square().mean(-1, keepdim=True).add_(eps))
    return y.to(x.dtype).mul_(weight)


class TorchOperators:
    """See LayerOperators. For all devices and types."""

    def __init__(
        self,
        epsilon: float,
        silu: Callable[[Tensor], Tensor] = functional.silu,
        normalize: Normalize = rms_norm,
    ) -> None:
        """epsilon: of RMSNorm."""
        self._normalize = functools.partial(normalize, eps=epsilon)
        self._silu = silu

    def normalize(self, x: Tensor, weight: Tensor) -> Tensor:
        """See LayerOperators."""
        return self._normalize(x, weight)

    def add_and_normalize(self, x: Tensor, more: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
        """See LayerOperators."""
        total = x + more
        return total, self.normalize(total, weight)

    def rotate(self, heads: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        """See LayerOperators."""
        return torch.addcmul(heads * cos, heads.roll(heads.shape[-1] // 2, -1), sin)

    def gate(self, gate_up: Tensor) -> Tensor:
        """See LayerOperators."""
        gate, up = gate_up.chunk(2, dim=1)
        return self._silu(gate).mul_(up)

    def attend(
        self,
        index: int,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        spans: Spans,
        window: int | None,
    ) -> Tensor:
        """See LayerOperators."""
        scaling = query.shape[-1] ** -0.5
        query, key, value = (one.transpose(0, 1) for one in (query, key, value))
        attended = attend(index, query, key, value, spans, scaling, window)
        return attended.flatten(1)
