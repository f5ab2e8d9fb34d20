"""The rows of a step, span by span: picked on the device, or logits brought from it."""

from collections.abc import Sequence

import torch
from torch import Tensor

from paceline.engine.interfaces import Logits, Rows, Span
from paceline.engine.torch.sampling.picks import pick_rows


def picked_spans(logits: Tensor, spans: Sequence[Span]) -> list[Rows]:
    """Of spans that say what to pick the picks, of others the logits; all are [rows, vocabulary].

    A piece of a prompt has no rows, and its span is not asked.
    """
    counts = [span.wanted_rows for span in spans]
    pieces = logits.split(counts)
    asking = [index for index, span in enumerate(spans) if span.picks and span.wanted_rows]
    requests = [span.picks() for span in spans if span.picks and span.wanted_rows]
    rows = logits if len(asking) == len(spans) else _joined([pieces[index] for index in asking])
    picks = iter(pick_rows(rows, requests) if requests else ())
    return [
        next(picks) if index in asking else split(piece, [count])[0]
        for index, (piece, count) in enumerate(zip(pieces, counts, strict=True))
    ]


def split(logits: Tensor, counts: list[int]) -> list[Logits]:
    """Rows of each span, as numpy's float32 or float64."""
    wide = logits if logits.dtype == torch.float64 else logits.float()
    array = wide.cpu().numpy()
    ends = [sum(counts[: index + 1]) for index in range(len(counts))]
    return [array[end - count : end] for end, count in zip(ends, counts, strict=True)]


def _joined(pieces: list[Tensor]) -> Tensor:
    return torch.cat(pieces) if pieces else torch.empty(0)
