"""Prompt lookup: what followed the same tokens before. Pure.

Prompt lookup (Saxena 2023) and suffix matching (SuffixDecoding, Oliaro et al. 2024, arXiv
2411.04975): outputs often repeat their prompt, themselves, or the outputs of other streams.
"""

from collections import OrderedDict, deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from paceline.protocol.session import Opening

KEY_TOKENS = 2
"""A match has at least this many tokens."""
LONGEST_MATCH = 32
"""Longer matches count as equally long."""
MOST_OCCURRENCES = 16
"""Occurrences of one key that are remembered, the last ones."""
RECENT_OUTPUTS = 32
"""Ended streams that are remembered, for each salt."""
RECENT_SALTS = 64
"""Salts that are remembered, the last ones used."""
RECENT_TOKENS = 16384
"""Of a longer stream only the last tokens are remembered."""
MOST_BYTES = 64 * 1024 * 1024
"""Of all that are remembered, about; those of the salt used longest ago go first."""
TOKEN_BYTES = 384
"""What a remembered token costs, with its place in the index: at most, about."""


@dataclass(frozen=True, slots=True)
class Match:
    """Tokens that followed the same `length` tokens before."""

    length: int
    following: tuple[int, ...]


NO_MATCH = Match(0, ())


class SuffixIndex:
    """Tokens, and the positions behind each run of KEY_TOKENS of them."""

    def __init__(self, tokens: Iterable[int] = ()) -> None:
        """Begin with `tokens`."""
        self.tokens: list[int] = []
        self._positions: dict[tuple[int, ...], list[int]] = {}
        self.extend(tokens)

    def extend(self, tokens: Iterable[int]) -> None:
        """Append tokens."""
        for token in tokens:
            # A key is known only once something follows it.
            if len(self.tokens) >= KEY_TOKENS:
                key = tuple(self.tokens[-KEY_TOKENS:])
                positions = self._positions.setdefault(key, [])
                positions.append(len(self.tokens))
                if len(positions) > MOST_OCCURRENCES:
                    del positions[0]
            self.tokens.append(token)

    def longest(self, context: Sequence[int], count: int) -> Match:
        """What followed, up to `count` tokens, the longest match with the end of `context`.

        Of equally long matches the last one counts.
        """
        positions = self._positions.get(tuple(context[-KEY_TOKENS:]), ())
        matches = ((self._match_length(context, position), position) for position in positions)
        length, start = max(matches, default=(0, 0))
        return Match(length, tuple(self.tokens[start : start + count])) if length else NO_MATCH

    def _match_length(self, context: Sequence[int], position: int) -> int:
        """How many tokens before `position` equal the end of `context`: at least KEY_TOKENS."""
        most = min(LONGEST_MATCH, len(context), position)
        length = KEY_TOKENS
        while length < most and self.tokens[position - length - 1] == context[-length - 1]:
            length += 1
        return length


class RecentOutputs:
    """Tokens of streams that have ended, by salt: a stream sees only those of its own salt."""

    def __init__(self) -> None:
        """Begin empty."""
        self._by_salt: OrderedDict[str, deque[SuffixIndex]] = OrderedDict()

    def add(self, salt: str, tokens: Sequence[int]) -> None:
        """Remember a stream that has ended."""
        outputs = self._by_salt.setdefault(salt, deque(maxlen=RECENT_OUTPUTS))
        outputs.append(SuffixIndex(tokens[-RECENT_TOKENS:]))
        self._by_salt.move_to_end(salt)
        while len(self._by_salt) > RECENT_SALTS:
            self._by_salt.popitem(last=False)
        while self.bytes > MOST_BYTES:
            self._forget_oldest()

    @property
    def bytes(self) -> int:
        """What is remembered comes to so much, about."""
        every = (one for outputs in self._by_salt.values() for one in outputs)
        return TOKEN_BYTES * sum(len(one.tokens) for one in every)

    def _forget_oldest(self) -> None:
        salt, outputs = next(iter(self._by_salt.items()))
        outputs.popleft()
        if not outputs:
            del self._by_salt[salt]

    def of(self, salt: str) -> tuple[SuffixIndex, ...]:
        """Streams of one salt, the last one first."""
        return tuple(reversed(self._by_salt.get(salt, ())))

    def lookup(self, opening: Opening) -> "PromptLookup":
        """For a stream that opens: in itself, then in those of its salt that ended before."""
        tokens = opening.prompt_token_ids + opening.output_token_ids
        return PromptLookup(tokens, self.of(opening.cache_salt))


class PromptLookup:
    """Prompt lookup for one stream: in itself, then in streams that ended before."""

    def __init__(self, tokens: Sequence[int], others: Iterable[SuffixIndex] = ()) -> None:
        """`tokens` are the committed ones so far."""
        self._own = SuffixIndex(tokens)
        self._others = tuple(others)

    def commit(self, tokens: Sequence[int]) -> None:
        """Take all committed tokens, of which the first ones are known already."""
        self._own.extend(tokens[len(self._own.tokens) :])

    def find(self, context: Sequence[int], count: int, least: int) -> Match:
        """The longest match of at least `least` tokens; NO_MATCH without one."""
        best = self._own.longest(context, count)
        for other in self._others:
            if best.length >= LONGEST_MATCH:
                break
            match = other.longest(context, count)
            best = match if match.length > best.length else best
        return best if best.length >= least else NO_MATCH
