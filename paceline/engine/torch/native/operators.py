"""What a fused layer does between its products, in C: operators.c and attention.c."""

from ctypes import CDLL, c_float, c_int, c_ssize_t, c_void_p
from typing import Any

import torch
from torch import Tensor

from paceline.engine.torch.attention import Spans
from paceline.engine.torch.layer_operators import LayerOperators, TorchOperators
from paceline.engine.torch.native.attention import NativeAttention
from paceline.engine.torch.native.library import ATTENTION, OPERATORS, library

_MULTIPLE = 16
"""Of widths."""
_MOST_HEAD = 256


def native_operators(config: Any, like: Tensor, *, attends: bool) -> LayerOperators | None:
    """Those of a model; None where this machine, or its type or widths, are not for them.

    config: of the text. like: of its type and device. attends: in C, too.
    """
    found, attention = library(OPERATORS), library(ATTENTION)
    if found is None or attention is None or not _fits(config, like):
        return None
    return NativeOperators(
        config.rms_norm_eps, found, NativeAttention(attention) if attends else None
    )


def _fits(config: Any, like: Tensor) -> bool:
    head = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    widths = (config.hidden_size, config.intermediate_size, head)
    of_cpu = like.dtype == torch.bfloat16 and like.device.type == "cpu"
    return of_cpu and head <= _MOST_HEAD and not any(width % _MULTIPLE for width in widths)


class NativeOperators(TorchOperators):
    """See LayerOperators. In bf16; a row alone decides its bits."""

    def __init__(self, epsilon: float, library: CDLL, attention: NativeAttention | None) -> None:
        """epsilon: of RMSNorm. attention: None for torch's."""
        super().__init__(epsilon)
        self._epsilon, self._library, self._attention = epsilon, library, attention
        sizes = [c_ssize_t, c_ssize_t]
        library.normalize.argtypes = [*[c_void_p] * 3, *sizes, c_float, c_int]
        library.add_and_normalize.argtypes = [*[c_void_p] * 5, *sizes, c_float, c_int]
        library.rotate.argtypes = [*[c_void_p] * 3, *[c_ssize_t] * 4, c_int]
        library.gate.argtypes = [*[c_void_p] * 2, *sizes, c_int]

    def normalize(self, x: Tensor, weight: Tensor) -> Tensor:
        """See LayerOperators."""
        x = x.contiguous()
        y, width = torch.empty_like(x), x.shape[-1]
        self._library.normalize(
            *_addresses(x, weight, y),
            x.numel() // width,
            width,
            self._epsilon,
            torch.get_num_threads(),
        )
        return y

    def add_and_normalize(self, x: Tensor, more: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
        """See LayerOperators."""
        total, y = torch.empty_like(x), torch.empty_like(x)
        self._library.add_and_normalize(
            *_addresses(x, more, weight, total, y), *x.shape, self._epsilon, torch.get_num_threads()
        )
        return total, y

    def rotate(self, heads: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        """See LayerOperators. In place."""
        rows, count, dim = heads.shape
        if cos.shape != (rows, 1, dim) or sin.shape != cos.shape:
            raise ValueError(f"cos is {tuple(cos.shape)}, and must be {(rows, 1, dim)}")
        cos, sin = cos.contiguous(), sin.contiguous()  # held until they are read
        sizes = (rows, heads.stride(0), count, dim)
        self._library.rotate(*_addresses(heads, cos, sin), *sizes, torch.get_num_threads())
        return heads

    def gate(self, gate_up: Tensor) -> Tensor:
        """See LayerOperators."""
        rows, width = gate_up.shape[0], gate_up.shape[1] // 2
        y = gate_up.new_empty(rows, width)
        self._library.gate(*_addresses(gate_up, y), rows, width, torch.get_num_threads())
        return y

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
        if self._attention is None:
            return super().attend(index, query, key, value, spans, window)
        return self._attention(index, query, key, value, spans, window)


def _addresses(*tensors: Tensor) -> tuple[int, ...]:
    return tuple(tensor.data_ptr() for tensor in tensors)
