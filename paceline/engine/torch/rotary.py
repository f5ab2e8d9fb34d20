"""Rotary embeddings whose frequencies depend on the sequence's length: each session has its own.

`longrope` (Ding et al. 2024) has other factors for sequences beyond the original length, `dynamic`
scales by the length. transformers takes the longest position of the batch, so that a session would
depend on the others and on its progress. Here a session has the frequencies of its maximum
length, prompt and output together, from the first token on.
"""

from typing import Any

import torch
from torch import Tensor, nn

from paceline.engine.torch.attention import RaggedBatch, Spans, current_spans

KINDS = {"longrope", "dynamic"}


class RopeLength:
    """The length that a session's frequencies are for; only sessions with equal ones share KV."""

    def __init__(self, config: Any) -> None:
        """Of a model with this config."""
        found = _scaled(config)
        self._kind = found.get("rope_type", "")
        self.limit: int = _limit(config, found)

    @property
    def matters(self) -> bool:
        """Whether lengths make any difference."""
        return self._kind in KINDS

    def of(self, max_length: int) -> int:
        """Of a session's maximum length; 0 within the original length, where all are alike."""
        if not self.matters or max_length <= self.limit:
            return 0
        return max_length if self._kind == "dynamic" else self.limit + 1


def _scaled(config: Any) -> dict[str, Any]:
    """The rope parameters that depend on lengths: one set, or one for each kind of layer."""
    parameters = getattr(config, "rope_parameters", None) or {}
    sets = [one for one in (parameters, *parameters.values()) if isinstance(one, dict)]
    return next((one for one in sets if one.get("rope_type") in KINDS), {})


def _limit(config: Any, parameters: dict[str, Any]) -> int:
    """Longrope switches at the length that the config names, dynamic at its most positions."""
    most = getattr(config, "max_position_embeddings", 0)
    named = parameters.get("original_max_position_embeddings")
    return int(named or most) if parameters.get("rope_type") == "longrope" else most


class SessionRotary(nn.Module):
    """A rotary embedding of transformers, called for each rope_length by itself."""

    def __init__(self, rotary: nn.Module, limit: int) -> None:
        """limit: the original length."""
        super().__init__()
        self._rotary = rotary
        self._limit = limit

    def forward(self, x: Tensor, position_ids: Tensor, *layer: Any, **named: Any) -> Any:
        """As the embedding's own, [1, rows, ...], within `attending`."""
        start = torch.zeros_like(position_ids[:, :1])

        def asked(positions: Tensor) -> Any:
            self._rotary(x, start, *layer, **named)  # resets what a longer one left
            return self._rotary(x, positions, *layer, **named)

        result = asked(position_ids.clamp(max=self._limit - 1))
        for rope_length, rows in _rows_by_reach(current_spans()).items():
            end = torch.full_like(start, rope_length - 1)
            result = _replaced(result, asked(torch.cat((position_ids, end), dim=1)), rows)
        return result


def _rows_by_reach(spans: Spans) -> dict[int, list[int]]:
    """Rows of the sessions beyond the original length."""
    if isinstance(spans, RaggedBatch):
        return spans.rows_by_rope_length()
    rows: dict[int, list[int]] = {}
    for span in spans:
        if span.cache.rope_length:
            rows.setdefault(span.cache.rope_length, []).extend(range(span.start, span.end))
    return rows


def _replaced(result: Any, there: Any, rows: list[int]) -> Any:
    """`result`, a tensor or several, with these rows of `there`."""
    if not isinstance(result, Tensor):
        return tuple(_replaced(one, other, rows) for one, other in zip(result, there, strict=True))
    result[:, rows] = there[:, rows]
    return result


def follow_sessions(model: nn.Module, rope_length: RopeLength) -> None:
    """Wrap each rotary embedding of `model` whose frequencies depend on lengths."""
    if not rope_length.matters:
        return
    for module in list(model.modules()):
        for name, child in list(module.named_children()):
            if _depends_on_length(child) and not isinstance(module, SessionRotary):
                setattr(module, name, SessionRotary(child, rope_length.limit))


def _depends_on_length(module: nn.Module) -> bool:
    kind = getattr(module, "rope_type", None)
    kinds = set(kind.values()) if isinstance(kind, dict) else {kind}
    return bool(kinds & KINDS)
