"""The forward pass over a ragged batch, on OpenVINO. A draft's: its rows depend on their batch."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import openvino as ov
from numpy.typing import NDArray

from paceline.engine.interfaces import PAGE_TOKENS, Span
from paceline.engine.openvino.graph import build
from paceline.engine.openvino.pool import OpenvinoPool
from paceline.engine.openvino.shape import GROUP
from paceline.engine.pages import PagedCache
from paceline.engine.prepared.draft_file import PreparedDraft
from paceline.engine.prepared.paged_runner import (
    PagedBatch,
    PagedDraftRunner,
    positions_of,
    tokens_of,
    wanted_rows,
)

WARM_ROWS = (64, 8, 1)


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


class OpenvinoRunner(PagedDraftRunner[OpenvinoPool]):
    """A draft's Runner. One thread owns it."""

    def __init__(self, draft: PreparedDraft, threads: int, pages: int, **more: Any) -> None:
        """Of so many pages of KV. more: see compiled."""
        self._embeddings = draft.tensors["embeddings"]
        model = compiled(draft, threads, **more)
        self._output = model.outputs[0]
        self._request = model.create_infer_request()
        super().__init__(OpenvinoPool(model, self._request, pages))
        self._warm_up()

    def _logits(self, batch: PagedBatch) -> NDArray[Any]:
        """See PagedDraftRunner."""
        found = self._request.infer(self._inputs(batch), share_inputs=True)[self._output]
        # The next step writes where this one's logits lie.
        return found.copy()  # type: ignore[no-any-return]

    def _warm_up(self) -> None:
        """Have OpenVINO choose its kernels now, which takes a second, and not for a prompt."""
        cache = self.new_cache()
        for rows in WARM_ROWS:
            self.forward([(cache, Span(0, (0,) * rows, 1))])

    def _inputs(self, batch: PagedBatch) -> dict[str, NDArray[Any]]:
        lengths = [len(span.token_ids) for _, span in batch]
        ends = [span.position + length for (_, span), length in zip(batch, lengths, strict=True)]
        blocks = [self._blocks(cache, end) for (cache, _), end in zip(batch, ends, strict=True)]
        wanted = wanted_rows(batch)
        return {
            "embeddings": _as_float32(self._embeddings[tokens_of(batch)]),
            "position_ids": positions_of(batch),
            "wanted": wanted if len(wanted) else np.array([0]),  # one that nobody reads
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


def _begins(lengths: Sequence[int]) -> NDArray[np.int32]:
    return np.cumsum([0, *lengths], dtype=np.int32)


def _as_float32(bfloat16: NDArray[np.uint16]) -> NDArray[np.float32]:
    return (bfloat16.astype(np.uint32) << 16).view(np.float32)
