"""KV of all sessions in pages: who has which, shared by sessions with a common prefix.

A session has a list of pages. Full pages of a common prefix are shared, and copied when one of the
sessions writes to them. Page 0 is for rows that nobody reads.
"""

import weakref
from abc import ABC, abstractmethod
from collections import Counter, deque

from paceline.engine.interfaces import PAGE_TOKENS

UNREAD_PAGE = 0
MORE = 8
"""Pages by which it grows at least, where the probe or prefixes need more than sessions may."""


class PagePool(ABC):
    """Pages of all layers, wherever they lie. One thread owns it."""

    def __init__(self, pages: int) -> None:
        """Of so many pages at first."""
        self._pages = pages + 1
        self._free = list(range(pages, UNREAD_PAGE, -1))
        self._uses: Counter[int] = Counter()
        self._left_over: deque[list[int]] = deque()

    @property
    @abstractmethod
    def token_bytes(self) -> int:
        """Bytes of a token, all layers together; 0 while that is not known."""

    @abstractmethod
    def _copy(self, page: int, new: int) -> None:
        """Copy the contents of `page` into `new`."""

    @abstractmethod
    def _resize(self, pages: int) -> None:
        """Hold so many pages, more than before, with the contents that there are."""

    @property
    def pages_used(self) -> int:
        """Pages that sessions have."""
        self._collect()
        return len(+self._uses)

    def take(self) -> int:
        """A page that nobody has."""
        self._collect()
        if not self._free:
            self._grow()
        page = self._free.pop()
        self._uses[page] = 1
        return page

    def share(self, page: int) -> None:
        """One more has it."""
        self._uses[page] += 1

    def own(self, page: int) -> int:
        """A page with the same contents that nobody else has: `page` itself where that is so."""
        self._collect()
        if self._uses[page] == 1:
            return page
        copied = self.copied(page)
        self._give_back([page])
        return copied

    def copied(self, page: int) -> int:
        """A new page with the contents of `page`."""
        new = self.take()
        self._copy(page, new)
        return new

    def owner(self, of: object, pages: list[int]) -> None:
        """Take back `pages`, as they are then, once `of` is gone; that may be on any thread."""
        weakref.finalize(of, self._left_over.append, pages)

    def _collect(self) -> None:
        while self._left_over:
            self._give_back(self._left_over.popleft())

    def _give_back(self, pages: list[int]) -> None:
        for page in pages:
            self._uses[page] -= 1
            if not self._uses[page]:
                self._free.append(page)

    def _grow(self) -> None:
        more = max(MORE, self._pages // 8)
        self._free += range(self._pages + more - 1, self._pages - 1, -1)
        self._pages += more
        self._resize(self._pages)


class PagedCache:
    """Keys and values of one session, as a list of pages of a pool."""

    def __init__(self, pool: PagePool, rope_length: int = 0) -> None:
        """Begin empty. rope_length: see KVCache."""
        self.rope_length = rope_length
        self.pages: list[int] = []
        self._pool = pool
        self._length = 0
        pool.owner(self, self.pages)

    @property
    def length(self) -> int:
        """Tokens it has."""
        return self._length

    @property
    def token_bytes(self) -> int:
        """Bytes of a token, all layers together; 0 before the first."""
        return self._pool.token_bytes

    def truncate(self, length: int) -> None:
        """Keep the first `length` tokens; rows behind them are overwritten later."""
        self._length = min(self._length, length)

    def copy(self, length: int) -> "PagedCache":
        """A cache with the first `length` tokens: full pages are shared, the last is copied."""
        copied = PagedCache(self._pool, self.rope_length)
        full, rest = divmod(length, PAGE_TOKENS)
        for page in self.pages[:full]:
            self._pool.share(page)
            copied.pages.append(page)
        if rest:
            copied.pages.append(self._pool.copied(self.pages[full]))
        copied._length = length
        return copied

    def make_room(self, start: int, end: int) -> None:
        """Have pages of its own for positions from `start` to `end`."""
        for index in range(start // PAGE_TOKENS, (end - 1) // PAGE_TOKENS + 1):
            if index < len(self.pages):
                self.pages[index] = self._pool.own(self.pages[index])
            else:
                self.pages.append(self._pool.take())

    def extend(self, rows: int) -> None:
        """Count `rows` more tokens, once all layers have them."""
        self._length += rows


def own_cache(cache: object) -> PagedCache:
    """`cache`, which must be of a runner with pages."""
    if not isinstance(cache, PagedCache):
        raise TypeError(f"{type(cache).__name__} is not of this runner")
    return cache
