"""python -m benchmarks.batched_attention: attention of all sessions of a step in one call.

On the CPU a loop over spans serves. The one call needs the keys of all sessions in one
tensor, and they are copied into it; "without copies" is what it would take if they lay there.
"""

import argparse
import functools
from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.nn import functional

from benchmarks.timing import median_seconds
from paceline.engine.torch.attention import SpanRows, attend
from paceline.engine.torch.kv_cache import SessionCache
from paceline.engine.torch.padding import Padding, batch_invariant

HEADS, KV_HEADS, WIDTH = 12, 2, 128
"""Of a 1.5B model."""
SESSIONS = (1, 2, 4, 8, 16, 32, 64)
TURNS = 60


class AttentionStep:
    """Sessions with random keys, and queries of their spans. spans: position and rows of each."""

    def __init__(self, spans: Sequence[tuple[int, int]], dtype: torch.dtype) -> None:
        """As a target has them."""
        generator = torch.Generator().manual_seed(0)

        def random(heads: int, rows: int) -> Tensor:
            return torch.randn(heads, rows, WIDTH, generator=generator).to(dtype)

        self._padding = batch_invariant(dtype)
        self._spans: list[SpanRows] = []
        rows = 0
        for position, count in spans:
            cache = SessionCache(self._padding)
            if position:
                cache.layer(0).append(0, random(KV_HEADS, position), random(KV_HEADS, position))
            self._spans.append(SpanRows(cache, position, rows, rows + count))
            rows += count
        self._query = random(HEADS, rows)
        self._key, self._value = random(KV_HEADS, rows), random(KV_HEADS, rows)

    def loop(self) -> Tensor:
        """[rows, heads, width], span by span."""
        parts = (self._query, self._key, self._value, self._spans)
        return attend(0, *parts, WIDTH**-0.5, None)

    def together(self) -> Tensor:
        """Likewise, one call for all spans whose keys and queries are padded alike."""
        out = self._query.new_zeros(self._query.shape[1], HEADS, WIDTH)
        for spans, parts in self.stacked():
            for span, given in zip(spans, _attended(parts), strict=True):
                count = span.stop - span.start
                own = given[:, : count * HEADS // KV_HEADS]
                out[span.start : span.stop] = own.reshape(HEADS, count, WIDTH).transpose(0, 1)
        return out

    def stacked(self) -> list[tuple[list[SpanRows], tuple[Tensor, ...]]]:
        """Spans that are padded alike, with their queries, keys, values and masks in one tensor."""
        groups: dict[tuple[int, int], list[tuple[SpanRows, tuple[Tensor, ...]]]] = {}
        for span in self._spans:
            parts = self._padded(span, self._padding)
            groups.setdefault((parts[0].shape[1], parts[1].shape[1]), []).append((span, parts))
        return [
            (
                [span for span, _ in group],
                tuple(map(torch.stack, zip(*(parts for _, parts in group), strict=True))),
            )
            for group in groups.values()
        ]

    def _padded(self, span: SpanRows, padding: Padding) -> tuple[Tensor, ...]:
        at = slice(span.start, span.stop)
        layer = span.cache.layer(0)
        keys, values = layer.append(span.position, self._key[:, at], self._value[:, at])
        folded = self._query[:, at].reshape(KV_HEADS, -1, WIDTH)
        more = padding.queries(folded.shape[1]) - folded.shape[1]
        query = functional.pad(folded, (0, 0, 0, more))
        mask = span.mask(None, HEADS // KV_HEADS, query)
        if mask is None:
            mask = query.new_zeros(query.shape[1], keys.shape[1])
        return query, keys, values, mask[None]


def _all_attended(groups: Sequence[tuple[Tensor, ...]]) -> list[Tensor]:
    return [_attended(parts) for parts in groups]


def _attended(parts: tuple[Tensor, ...]) -> Tensor:
    query, keys, values, mask = parts
    return functional.scaled_dot_product_attention(
        query, keys, values, attn_mask=mask, scale=WIDTH**-0.5
    )


def main() -> None:
    """Print a line for each number of sessions."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--positions", type=int, default=600, help="of each session")
    parser.add_argument("--rows", type=int, default=1, help="of each span")
    parser.add_argument("--dtype", default="bfloat16")
    options = parser.parse_args()
    print("sessions  loop us  together us  without copies us")
    for sessions in SESSIONS:
        spans = [(options.positions + at, options.rows) for at in range(sessions)]
        step = AttentionStep(spans, getattr(torch, options.dtype))
        free = functools.partial(_all_attended, [parts for _, parts in step.stacked()])
        loop, together = _microseconds(step.loop), _microseconds(step.together)
        print(f"{sessions:8} {loop:8.0f} {together:12.0f} {_microseconds(free):18.0f}", flush=True)


def _microseconds(run: Callable[[], object]) -> float:
    return 1e6 * median_seconds(run, TURNS)


if __name__ == "__main__":
    main()
