"""The confirmed path: tokens of prompt and output, and which proposals lie on it."""

from collections.abc import Iterable

from paceline.session import Proposal

_MASK = (1 << 64) - 1
_GENESIS = 0x9E3779B97F4A7C15


def extend_digest(digest: int, token: int) -> int:
    """Digest, 64 bits, of a path with digest `digest` and one more token.

    The finalizer of splitmix64 (Steele, Lea and Flood 2014) over digest and token.
    """
    mixed = ((digest ^ token) + _GENESIS) & _MASK
    mixed = ((mixed ^ (mixed >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
    mixed = ((mixed ^ (mixed >> 27)) * 0x94D049BB133111EB) & _MASK
    return mixed ^ (mixed >> 31)


class TokenPath:
    """Tokens of one stream, with the digest before every position."""

    def __init__(self, tokens: Iterable[int] = ()) -> None:
        """Begin with `tokens`."""
        self.tokens: list[int] = []
        self._digests = [_GENESIS]
        self.extend(tokens)

    def __len__(self) -> int:
        """The position after the last token."""
        return len(self.tokens)

    @property
    def digest(self) -> int:
        """Digest of all tokens."""
        return self._digests[-1]

    def digest_before(self, position: int) -> int:
        """Digest of the tokens before `position`, which is at most the length."""
        return self._digests[position]

    def extend(self, tokens: Iterable[int]) -> None:
        """Append tokens."""
        for token in tokens:
            self.tokens.append(token)
            self._digests.append(extend_digest(self._digests[-1], token))

    def truncate(self, length: int) -> None:
        """Forget all tokens from position `length` on."""
        del self.tokens[length:]
        del self._digests[length + 1 :]

    def remainder(self, proposal: Proposal) -> tuple[int, ...]:
        """Tokens of `proposal` beyond the end of this path; empty when it lies off the path.

        A proposal that begins further on than the path's end lies off it too: what is
        between is not confirmed. Agreement of tokens alone would not do, because a stale
        path can agree by luck; the digest covers all that came before.
        """
        if proposal.position > len(self) or self._digests[proposal.position] != proposal.base_digest:
            return ()
        known = len(self) - proposal.position
        if tuple(self.tokens[proposal.position :]) != proposal.token_ids[:known]:
            return ()
        return proposal.token_ids[known:]
