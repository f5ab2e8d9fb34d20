"""The prefix cache: KV that ended sessions leave behind, for those that begin alike. Pure."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from paceline.engine.interfaces import KVCache

MIN_TOKENS = 16
"""A shorter prefix takes less time to compute than to find and copy."""

TokenArray = NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False)
class Prefix:
    """Tokens, and a cache with KV of all of them, to which nobody else writes.

    Only sessions of the same salt may begin with it. pages: of KV that it takes.
    """

    salt: str
    tokens: TokenArray
    cache: KVCache
    pages: int


class PrefixCache:
    """Prefixes by recency of use."""

    def __init__(self) -> None:
        """Begin empty."""
        self._prefixes: list[Prefix] = []  # the least recently used first

    @property
    def pages(self) -> int:
        """Pages of KV that all take."""
        return sum(prefix.pages for prefix in self._prefixes)

    def add(self, new: Prefix) -> None:
        """Keep `new` instead of all that it contains; nothing changes where one contains it."""
        if new.tokens.size < MIN_TOKENS:
            return
        for old in self._of(new.salt):
            common = common_length(old.tokens, new.tokens)
            if common == new.tokens.size:
                self._touch(old)
                return
            if common == old.tokens.size:
                self._prefixes.remove(old)
        self._prefixes.append(new)

    def longest(self, salt: str, tokens: TokenArray) -> tuple[KVCache, int] | None:
        """The cache that shares most leading tokens, and how many; it becomes the most recent."""
        found = longest(self._of(salt), tokens)
        if found is None:
            return None
        self._touch(found[0])
        return found[0].cache, found[1]

    def longest_with(
        self, salt: str, tokens: TokenArray, running: Iterable[Prefix]
    ) -> tuple[KVCache, int] | None:
        """As longest; prefixes of sessions that still run count as well."""
        ended = self.longest(salt, tokens)
        live = longest((prefix for prefix in running if prefix.salt == salt), tokens)
        if live is not None and (ended is None or live[1] > ended[1]):
            return live[0].cache, live[1]
        return ended

    def evict(self, pages: int) -> None:
        """Drop the least recently used until at most `pages` are taken."""
        while self.pages > max(0, pages):
            self._prefixes.pop(0)

    def _of(self, salt: str) -> list[Prefix]:
        return [prefix for prefix in self._prefixes if prefix.salt == salt]

    def _touch(self, prefix: Prefix) -> None:
        self._prefixes.remove(prefix)
        self._prefixes.append(prefix)


def longest(prefixes: Iterable[Prefix], tokens: TokenArray) -> tuple[Prefix, int] | None:
    """The one of `prefixes` that shares most leading tokens; None when too few are shared."""
    lengths = [(common_length(prefix.tokens, tokens), prefix) for prefix in prefixes]
    length, prefix = max(lengths, key=lambda found: found[0], default=(0, None))
    return (prefix, length) if prefix is not None and length >= MIN_TOKENS else None


def common_length(left: TokenArray, right: TokenArray) -> int:
    """How many leading tokens are the same."""
    size = min(left.size, right.size)
    differing = np.flatnonzero(left[:size] != right[:size])
    return int(differing[0]) if differing.size else size


def as_array(tokens: Sequence[int]) -> TokenArray:
    """Tokens as an array, which compares quickly."""
    return np.array(tokens, np.int64)
