"""Attention of a step's rows, in C: attention.c."""

from collections.abc import Iterator, Sequence
from ctypes import CDLL, POINTER, Structure, byref, c_float, c_int, c_ssize_t, c_void_p

import torch
from torch import Tensor

from paceline.engine.torch.attention import RaggedBatch, SpanRows, Spans, note_call


class AttentionPiece(Structure):
    """See Piece of attention.c."""

    _fields_ = (
        ("keys", c_void_p),
        ("values", c_void_p),
        *((name, c_ssize_t) for name in ("apart", "row", "rows", "position", "keeps")),
    )


class AttentionHeads(Structure):
    """See Heads of attention.c."""

    _fields_ = (("first", c_void_p), ("apart", c_ssize_t))


class AttentionLayer(Structure):
    """See Attention of attention.c."""

    _fields_ = (
        *((name, AttentionHeads) for name in ("query", "key", "value")),
        ("y", c_void_p),
        ("pieces", POINTER(AttentionPiece)),
        *((name, c_ssize_t) for name in ("count", "heads", "kv_heads", "dim", "window")),
        ("scale", c_float),
    )


class NativeAttention:
    """Any steps and sessions give a row the same bits. KV lies as in SessionCache."""

    def __init__(self, library: CDLL) -> None:
        """By attention.c."""
        library.attend.argtypes = [POINTER(AttentionLayer), c_int]
        self._attend = library.attend

    def __call__(
        self,
        index: int,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        spans: Spans,
        window: int | None,
    ) -> Tensor:
        """See LayerOperators.attend."""
        note_call(index)
        if isinstance(spans, RaggedBatch):
            raise TypeError("pages are attended to on a GPU")
        rows, heads, dim = query.shape
        y = query.new_zeros(rows, heads * dim)
        pieces = list(_pieces(index, key.transpose(0, 1), value.transpose(0, 1), spans))
        layer = AttentionLayer(
            *(AttentionHeads(one.data_ptr(), one.stride(0)) for one in (query, key, value)),
            y=y.data_ptr(),
            pieces=(AttentionPiece * len(pieces))(*pieces),
            count=len(pieces),
            heads=heads,
            kv_heads=key.shape[1],
            dim=dim,
            window=window or 0,
            scale=dim**-0.5,
        )
        self._attend(byref(layer), torch.get_num_threads())
        return y


def _pieces(
    index: int, key: Tensor, value: Tensor, spans: Sequence[SpanRows]
) -> Iterator[AttentionPiece]:
    """Each span and its branches; key, value: [kv_heads, rows, dim]."""
    for span in spans:
        layer = span.cache.layer(index)
        kept = layer.reserve(span.position + span.stop - span.start, key, value)
        yield _piece(span, kept, keeps=True)
        for branch in span.branches:
            yield _piece(branch, kept, keeps=False)
            at = slice(branch.start, branch.stop)
            layer.branches.append((branch.position, key[:, at], value[:, at]))


def _piece(rows: SpanRows, kept: tuple[Tensor, Tensor], *, keeps: bool) -> AttentionPiece:
    keys, values = kept
    return AttentionPiece(
        keys=keys.data_ptr(),
        values=values.data_ptr(),
        apart=keys.stride(0),
        row=rows.start,
        rows=rows.stop - rows.start,
        position=rows.position,
        keeps=keeps,
    )
