"""KV of sessions in vLLM's blocks: its pool counts who holds each of them."""

import itertools
import weakref
from collections import deque
from collections.abc import Sequence
from typing import Any, Protocol, Self


class Block(Protocol):
    """A block of vLLM's pool."""

    block_id: int
    ref_cnt: int


class BlockPool(Protocol):
    """What is used of vLLM's pool of blocks."""

    def get_new_blocks(self, num_blocks: int) -> list[Any]:
        """Blocks that nobody holds."""

    def touch(self, blocks: Sequence[Any]) -> None:
        """One more holds them."""

    def free_blocks(self, ordered_blocks: Sequence[Any]) -> None:
        """One less holds them."""

    def get_num_free_blocks(self) -> int:
        """Blocks that nobody holds."""


Page = tuple[Block, ...]
"""The blocks of the same tokens, one of each of the model's groups of layers."""


class KVBlocks:
    """Pages for the caches of one engine; used on the engine's thread, but for dropped caches."""

    def __init__(self, pool: BlockPool, page_tokens: int, groups: int = 1) -> None:
        """page_tokens: tokens in a block. groups: of layers that have blocks of their own."""
        self.page_tokens = page_tokens
        self._pool, self._groups = pool, groups
        self._names = itertools.count()
        self._dropped: deque[tuple[list[str], list[Page]]] = deque()
        self._finished: set[str] = set()
        self._copies: dict[int, int] = {}
        """From which block each new one is filled."""
        self._copied: list[Page] = []

    @property
    def free_pages(self) -> int:
        """Pages that nobody holds."""
        return self._pool.get_num_free_blocks() // self._groups

    def new_name(self) -> str:
        """Of a request that the workers do not know."""
        return f"paceline-{next(self._names)}"

    def take(self, count: int) -> list[Page]:
        """New pages; ValueError where there are too few."""
        blocks = self._pool.get_new_blocks(count * self._groups)
        return [tuple(blocks[at : at + self._groups]) for at in range(0, len(blocks), self._groups)]

    def share(self, pages: Sequence[Page]) -> None:
        """One more cache has these pages."""
        self._pool.touch([block for page in pages for block in page])

    def give_back(self, pages: Sequence[Page]) -> None:
        """One cache less has these pages."""
        self._pool.free_blocks([block for page in reversed(pages) for block in page])

    def copied(self, page: Page) -> Page:
        """A page of its own, which is filled from `page` before the next forward pass."""
        [new] = self.take(1)
        self.share([page])  # until it is copied
        self._copied.append(page)
        for old, its in zip(page, new, strict=True):
            # One that is not filled yet has nothing to give: all are filled at the same time.
            self._copies[its.block_id] = self._copies.get(old.block_id, old.block_id)
        return new

    def finish(self, name: str) -> None:
        """The workers may forget this request."""
        self._finished.add(name)

    def drop(self, names: list[str], pages: list[Page]) -> None:
        """A cache is gone, which knows no thread: its pages are free before the next step."""
        self._dropped.append((names, pages))

    def reclaim(self) -> None:
        """Free the pages of caches that are gone."""
        while self._dropped:
            names, pages = self._dropped.popleft()
            self._finished.update(names)
            self.give_back(pages)

    def changes(self) -> tuple[set[str], list[tuple[int, int]]]:
        """What the next step is to begin with: requests that ended, and blocks to copy."""
        finished, copies = self._finished, [(old, new) for new, old in self._copies.items()]
        self._finished, self._copies = set(), {}
        self.give_back(self._copied)
        self._copied = []
        return finished, copies


class BlockCache:
    """The KVCache of paceline.engine.interfaces: pages, and the request that the workers know."""

    rope_length = 0

    def __init__(self, blocks: KVBlocks) -> None:
        """Begin empty."""
        self._blocks = blocks
        self.length = 0
        self.pages: list[Page] = []
        self.names: list[str] = []
        """The request's name at the workers; none before its first step."""
        self.replaced = False
        """Whether the workers have to learn all of its pages again."""
        weakref.finalize(self, blocks.drop, self.names, self.pages).atexit = False

    def truncate(self, length: int) -> None:
        """See paceline.engine.interfaces.KVCache. Pages that have nothing are free at once."""
        self.length = min(self.length, length)
        empty = self.pages[-(-self.length // self._blocks.page_tokens) :]
        if empty:
            self._blocks.give_back(empty)
            del self.pages[-len(empty) :]
            self.replaced = bool(self.names)

    def copy(self, length: int) -> Self:
        """See paceline.engine.interfaces.KVCache: whole pages are shared, the last is copied.

        Where no page is free it has the whole pages only.
        """
        self._blocks.reclaim()
        length = min(length, self.length)
        new = type(self)(self._blocks)
        whole, rest = divmod(length, self._blocks.page_tokens)
        self._blocks.share(self.pages[:whole])
        new.pages += self.pages[:whole]
        new.length = whole * self._blocks.page_tokens
        if rest and self._blocks.free_pages:
            new.pages.append(self._blocks.copied(self.pages[whole]))
            new.length = length
        return new

    def grow(self, length: int) -> list[Page]:
        """Have pages for `length` tokens, of which those behind its own can be written.

        Returns the pages that are new behind the others.
        """
        self._own(self.length // self._blocks.page_tokens)
        missing = -(-length // self._blocks.page_tokens) - len(self.pages)
        new = self._blocks.take(missing) if missing > 0 else []
        self.pages += new
        return new

    def _own(self, first: int) -> None:
        """Copy pages from the first on that others have as well: they are about to be written."""
        for at in range(first, len(self.pages)):
            page = self.pages[at]
            if page[0].ref_cnt > 1:
                self.pages[at] = self._blocks.copied(page)
                self._blocks.give_back([page])
                self.replaced = bool(self.names)
