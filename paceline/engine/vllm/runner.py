"""The Runner on vLLM's workers: spans become vLLM's requests, one for each cache."""

from collections.abc import Sequence

import numpy as np
from vllm.sampling_params import SamplingParams
from vllm.v1.core.kv_cache_utils import KVCacheBlockCopy
from vllm.v1.core.sched.output import CachedRequestData, NewRequestData, SchedulerOutput

from paceline.engine.interfaces import KVCache, Logits, Rows, Span
from paceline.engine.vllm.engine_core import VllmCore
from paceline.engine.vllm.kv_blocks import BlockCache, Page
from paceline.engine.vllm.step import Extension, Picks, Said, WantedRows, WorkerStep


class VllmRunner:
    """See paceline.engine.interfaces.Runner; a row's bits are what vLLM's kernels make of it."""

    def __init__(self, core: VllmCore) -> None:
        """Own the workers of `core`."""
        self._core = core
        self._blocks = core.blocks
        self.page_tokens = core.blocks.page_tokens

    def new_cache(self, max_length: int = 0) -> BlockCache:
        """An empty cache."""
        return BlockCache(self._blocks)

    def forward(self, batch: Sequence[tuple[KVCache, Span]]) -> list[Logits]:
        """See paceline.engine.interfaces.Runner."""
        return [*map(np.asarray, self._rows(batch, picks=False))]

    def forward_and_pick(self, batch: Sequence[tuple[KVCache, Span]]) -> list[Rows]:
        """See paceline.engine.interfaces.PickingRunner: where logits would have far to go."""
        return self._rows(batch, picks=self._core.picks)

    def _rows(self, batch: Sequence[tuple[KVCache, Span]], *, picks: bool) -> list[Rows]:
        """A step of more requests than vLLM takes is cut."""
        self._blocks.reclaim()
        most = self._core.max_requests
        return [
            rows
            for start in range(0, len(batch), most)
            for rows in self._run(batch[start : start + most], picks=picks)
        ]

    def _run(self, batch: Sequence[tuple[KVCache, Span]], *, picks: bool) -> list[Rows]:
        caches, step = [_own(cache) for cache, _ in batch], _Builder(self._core, picks=picks)
        for cache, (_, span) in zip(caches, batch, strict=True):
            step.add(cache, span)
        rows = self._core.run(step.build())
        for cache, (_, span) in zip(caches, batch, strict=True):
            cache.length = span.position + len(span.token_ids)
        return rows


def _own(cache: KVCache) -> BlockCache:
    if not isinstance(cache, BlockCache):
        raise TypeError(f"{type(cache).__name__} is not of this runner")
    return cache


class _Builder:
    """Makes a step of spans."""

    def __init__(self, core: VllmCore, *, picks: bool) -> None:
        self._core, self._picks = core, picks
        self._new: list[NewRequestData] = []
        self._cached = CachedRequestData.make_empty()
        self._counts: dict[str, int] = {}
        self._drafts: dict[str, list[int]] = {}
        self._extensions: list[Extension] = []
        self._wanted: list[WantedRows] = []
        self._zeroed: list[Page] = []

    def add(self, cache: BlockCache, span: Span) -> None:
        """One more span: all but its last rows with logits go as vLLM's tokens, these as drafts."""
        cache.truncate(span.position)
        end = span.position + len(span.token_ids)
        if span.position == 0:
            self._forget(cache)
        new = cache.grow(end)
        drafts = max(0, span.logit_rows - 1)
        known = list(span.token_ids[: len(span.token_ids) - drafts])
        if cache.names:
            self._go_on(cache, span.position, known, new)
        else:
            self._begin(cache, span.position, known)
        [name] = cache.names
        self._counts[name] = len(span.token_ids)
        if drafts:
            self._drafts[name] = list(span.token_ids[-drafts:])
        self._wanted.append(WantedRows(name, span.logit_rows, self._picks_of(span)))
        self._zeroed += new

    def _picks_of(self, span: Span) -> Picks | None:
        """What to pick from the span's rows, if anything; asked now where it has to travel."""
        if not (self._picks and span.picks and span.logit_rows):
            return None
        return Said(span.picks()) if self._core.remote else span.picks

    def _forget(self, cache: BlockCache) -> None:
        """VLLM's request has a prompt of at least a token: one from the beginning is another."""
        if cache.names:
            self._core.blocks.finish(cache.names.pop())

    def _begin(self, cache: BlockCache, position: int, known: list[int]) -> None:
        """A request that the workers do not know; they never read the tokens below `position`."""
        cache.names.append(self._core.blocks.new_name())
        cache.replaced = False
        self._new.append(
            NewRequestData(
                req_id=cache.names[0],
                prompt_token_ids=[0] * position + known,
                mm_features=[],
                sampling_params=SamplingParams(temperature=0.0),
                pooling_params=None,
                block_ids=_ids(cache.pages, self._core.groups),
                num_computed_tokens=position,
                lora_request=self._core.adapter,
            )
        )

    def _go_on(self, cache: BlockCache, position: int, known: list[int], new: list[Page]) -> None:
        [name] = cache.names
        self._extensions.append(Extension(name, position, known))
        pages, cached = (cache.pages if cache.replaced else new), self._cached
        if cache.replaced:
            cached.resumed_req_ids.add(name)
            cache.replaced = False
        cached.req_ids.append(name)
        cached.new_block_ids.append(_ids(pages, self._core.groups) if pages else None)
        cached.num_computed_tokens.append(position)
        cached.num_output_tokens.append(position + len(known))  # as many as it may have

    def build(self) -> WorkerStep:
        """The step."""
        finished, copies = self._core.blocks.changes()
        ids = [block.block_id for page in self._zeroed for block in page]
        output = SchedulerOutput(
            scheduled_new_reqs=self._new,
            scheduled_cached_reqs=self._cached,
            num_scheduled_tokens=self._counts,
            total_num_scheduled_tokens=sum(self._counts.values()),
            scheduled_spec_decode_tokens=self._drafts,
            scheduled_encoder_inputs={},
            finished_req_ids=finished,
            free_encoder_mm_hashes=[],
            new_block_ids_to_zero=ids if self._core.zeroes else None,
            kv_cache_block_copies=[KVCacheBlockCopy(*pair) for pair in copies] or None,
        )
        return WorkerStep(output, self._extensions, self._wanted)


def _ids(pages: Sequence[Page], groups: int) -> tuple[list[int], ...]:
    """Numbers of blocks, by group."""
    return tuple([page[group].block_id for page in pages] for group in range(groups))
