"""Keys and values of one session: contiguous per layer, in whole pages, zeros where unused."""

import math

import torch
from torch import Tensor

from paceline.engine.interfaces import PAGE_TOKENS, Span, SpanBranch
from paceline.engine.torch.padding import Padding


class LayerCache:
    """Keys and values of one layer, each [kv_heads, capacity, head_dim].

    Before those of the first token lie `lead` rows of zeros, for attention sinks.
    """

    def __init__(self, padding: Padding, lead: int = 0) -> None:
        """Allocate nothing before the first append, which has the shapes."""
        self._padding = padding
        self._lead = lead
        self._keys: Tensor | None = None
        self._values: Tensor | None = None
        self.branches: list[tuple[int, Tensor, Tensor]] = []
        """Position, keys and values of each branch of the last span: views of its step's own."""

    def append(self, position: int, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """Write rows [kv_heads, n, head_dim] from `position` on.

        Returns keys and values as attention is to see them, as views: rows from position + n
        on, behind the lead, are zero or stale, always finite, and must be masked.
        """
        position += self._lead
        end = position + keys.shape[1]
        kept_keys, kept_values = self.reserve(end, keys, values)
        kept_keys[:, position:end] = keys
        kept_values[:, position:end] = values
        seen = self._padding.keys(end)
        return kept_keys[:, :seen], kept_values[:, :seen]

    def reserve(self, rows: int, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """All keys and values, with room for so many rows like these, the lead's too."""
        self._keys = _grown(self._keys, rows, keys)
        self._values = _grown(self._values, rows, values)
        return self._keys, self._values

    @property
    def token_bytes(self) -> int:
        """Bytes of one row."""
        held = (one for one in (self._keys, self._values) if one is not None)
        return sum(one.shape[0] * one.shape[2] * one.element_size() for one in held)

    def copy(self, length: int) -> "LayerCache":
        """A copy of the first `length` rows."""
        copied = LayerCache(self._padding, self._lead)
        rows = self._lead + length
        copied._keys, copied._values = _head(self._keys, rows), _head(self._values, rows)
        return copied


class SessionCache:
    """All layers of one session."""

    def __init__(self, padding: Padding, rope_length: int = 0) -> None:
        """Begin empty. rope_length: see rotary."""
        self.padding = padding
        self.rope_length = rope_length
        self._layers: dict[int, LayerCache] = {}
        self._length = 0
        self._branches: tuple[SpanBranch, ...] = ()

    @property
    def length(self) -> int:
        """Tokens it has."""
        return self._length

    @property
    def token_bytes(self) -> int:
        """Bytes of a token, all layers together; 0 before the first."""
        return sum(layer.token_bytes for layer in self._layers.values())

    def truncate(self, length: int) -> None:
        """Keep the first `length` tokens; rows behind them are overwritten later."""
        self._length = min(self._length, length)
        if self._branches:
            self._branches = ()
            for layer in self._layers.values():
                layer.branches.clear()

    def begin(self, span: Span) -> None:
        """The span and its branches are about to be computed."""
        self.truncate(span.position)
        self._branches = span.branches

    @torch.inference_mode()
    def take_branch(self, index: int) -> None:
        """See BranchingCache."""
        end = self._branches[index].end
        for layer in self._layers.values():
            layer.append(*layer.branches[index])
        self._length = end
        self.truncate(end)

    def copy(self, length: int) -> "SessionCache":
        """A cache of its own with the first `length` tokens; 28 KB a token of a 1.5B model."""
        copied = SessionCache(self.padding, self.rope_length)
        copied._layers = {index: layer.copy(length) for index, layer in self._layers.items()}
        copied._length = length
        return copied

    def extend(self, rows: int) -> None:
        """Count `rows` more tokens, once all layers have them."""
        self._length += rows

    def layer(self, index: int, lead: int = 0) -> LayerCache:
        """The cache of layer `index`, which is always asked for with the same lead."""
        if index not in self._layers:
            self._layers[index] = LayerCache(self.padding, lead)
        return self._layers[index]


def _grown(buffer: Tensor | None, length: int, like: Tensor) -> Tensor:
    """`buffer`, or a copy of it in zeros of whole pages when it is shorter than `length`."""
    if buffer is not None and buffer.shape[1] >= length:
        return buffer
    grown = _zeros(length, like)
    if buffer is not None:
        grown[:, : buffer.shape[1]] = buffer
    return grown


def _head(buffer: Tensor | None, length: int) -> Tensor | None:
    """A copy of the first `length` rows, in whole pages."""
    if buffer is None:
        return None
    head = _zeros(length, buffer)
    head[:, :length] = buffer[:, :length]
    return head


def _zeros(length: int, like: Tensor) -> Tensor:
    heads, _, width = like.shape
    capacity = math.ceil(length / PAGE_TOKENS) * PAGE_TOKENS
    return torch.zeros(heads, capacity, width, dtype=like.dtype, device=like.device)
