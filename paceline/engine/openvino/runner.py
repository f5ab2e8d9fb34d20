"""The forward pass over a ragged batch, on OpenVINO. A draft's: its rows depend on their batch."""

import itertools
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import openvino as ov
from numpy.typing import NDArray

from paceline.engine.interfaces import PAGE_TOKENS, KVCache, Logits, Span
from paceline.engine.openvino.graph import build
from paceline.engine.openvino.pool import OpenvinoPool
from paceline.engine.openvino.prepared import GROUP, PreparedDraft
from paceline.engine.pages import PagedCache, own_cache

WARM_ROWS = (64, 8, 1)
Batch = Sequence[tuple[PagedCache, Span]]


def compiled(draft: PreparedDraft, threads: int, **more: Any) -> ov.CompiledModel:
    """The graph for this machine's CPU; takes seconds. more: properties of OpenVINO's plugin."""
    core = ov.Core()
    has_bfloat16 = "BF16" in core.get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    properties = {
        "INFERENCE_NUM_THREADS": threads,
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_PRECISION_HINT": ov.Type.bf16 if has_bfloat16 else ov.Type.f32,
        # Rows are rounded to 8 bits by the groups that weights have.
        "DYNAMIC_QUANTIZATION_GROUP_SIZE": GROUP,
        "ENABLE_CPU_PINNING": False,  # a target may have the same cores
    }
    return core.compile_model(build(draft), "CPU", properties | more)


class OpenvinoRunner:
    """A draft's Runner. One thread owns it."""

    page_tokens = PAGE_TOKENS

    def __init__(self, draft: PreparedDraft, threads: int, pages: int, **more: Any) -> None:
        """Of so many pages of KV. more: see compiled."""
        self._embeddings = draft.tensors["embeddings"]
        model = compiled(draft, threads, **more)
        self._output = model.outputs[0]
        self._request = model.create_infer_request()
        self._pool = OpenvinoPool(model, self._request, pages)
        self._warm_up()

    @property
    def token_bytes(self) -> int:
        """Bytes of KV of a token."""
        return self._pool.token_bytes

    def new_cache(self, max_length: int = 0) -> PagedCache:
        """An empty cache, of whatever length."""
        return PagedCache(self._pool)

    def forward(self, batch: Sequence[tuple[KVCache, Span]]) -> list[Logits]:
        """See paceline.engine.interfaces.Runner."""
        own = [(own_cache(cache), span) for cache, span in batch]
        for cache, span in own:
            cache.truncate(span.position)
            cache.make_room(span.position, span.position + len(span.token_ids))
        found = self._request.infer(self._inputs(own), share_inputs=True)[self._output]
        for cache, span in own:
            cache.extend(len(span.token_ids))
        ends = itertools.accumulate(span.logit_rows for _, span in own)
        # The next step writes where this one's logits lie.
        return [
            found[end - span.logit_rows : end].copy()
            for end, (_, span) in zip(ends, own, strict=True)
        ]

    def _warm_up(self) -> None:
        """Have OpenVINO choose its kernels now, which takes a second, and not for a prompt."""
        cache = self.new_cache()
        for rows in WARM_ROWS:
            self.forward([(cache, Span(0, (0,) * rows, 1))])

    def _inputs(self, batch: Batch) -> dict[str, NDArray[Any]]:
        lengths = [len(span.token_ids) for _, span in batch]
        ends = [span.position + length for (_, span), length in zip(batch, lengths, strict=True)]
        tokens = list(itertools.chain.from_iterable(span.token_ids for _, span in batch))
        blocks = [self._blocks(cache, end) for (cache, _), end in zip(batch, ends, strict=True)]
        return {
            "embeddings": _as_float32(self._embeddings[tokens]),
            "position_ids": np.concatenate(
                [np.arange(span.position, end) for (_, span), end in zip(batch, ends, strict=True)]
            ),
            "wanted": _wanted(batch),
            "past_lens": np.array([span.position for _, span in batch], np.int32),
            "subsequence_begins": _begins(lengths),
            "block_indices": np.concatenate(blocks).astype(np.int32),
            "block_indices_begins": _begins([len(one) for one in blocks]),
            "max_context_len": np.array(max(ends), np.int32),
        }

    def _blocks(self, cache: PagedCache, tokens: int) -> NDArray[np.int64]:
        """Of its first tokens, in order."""
        each = self._pool.page_blocks
        pages = np.asarray(cache.pages[: math.ceil(tokens / PAGE_TOKENS)])
        blocks: NDArray[np.int64] = (pages[:, None] * each + np.arange(each)).ravel()
        return blocks[: math.ceil(tokens / self._pool.block_tokens)]


def _wanted(batch: Batch) -> NDArray[np.int64]:
    """Rows whose logits are wanted: the last ones of each span; of none, one that nobody reads."""
    rows: list[int] = []
    end = 0
    for _, span in batch:
        end += len(span.token_ids)
        rows += range(end - span.logit_rows, end)
    return np.array(rows or [0])


def _begins(lengths: Sequence[int]) -> NDArray[np.int32]:
    return np.cumsum([0, *lengths], dtype=np.int32)


def _as_float32(bfloat16: NDArray[np.uint16]) -> NDArray[np.float32]:
    return (bfloat16.astype(np.uint32) << 16).view(np.float32)
