"""The tokens of a stream, prompt and output, and which proposals lie on them."""

from collections.abc import Iterable
from itertools import accumulate

from paceline.protocol.hashing import mix
from paceline.protocol.proposal import Proposal

_EMPTY = 0
"""Digest of no tokens."""


class TokenPath:
    """Tokens of one stream, with the digest before every position."""

    def __init__(self, tokens: Iterable[int] = ()) -> None:
        """Begin with `tokens`."""
        self.tokens = list(tokens)
        self._digests = list(accumulate(self.tokens, mix, initial=_EMPTY))

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
        digest = self.digest
        for token in tokens:
            digest = mix(digest, token)
            self.tokens.append(token)
            self._digests.append(digest)

    def truncate(self, length: int) -> None:
        """Forget all tokens from position `length` on."""
        del self.tokens[length:]
        del self._digests[length + 1 :]

    def remainder(self, proposal: Proposal) -> tuple[int, ...]:
        """Tokens of `proposal` beyond the end of this path; empty when it lies off the path.

        A proposal that begins behind the path's end lies off it too: the tokens between are not
        known. Equal tokens alone would not do, because a stale proposal can have equal tokens by
        chance; the digest covers all that came before.
        """
        known = len(self.tokens) - proposal.position
        if not 0 <= known < len(proposal.token_ids) or not self.leads_to(proposal):
            return ()
        if known and tuple(self.tokens[proposal.position :]) != proposal.token_ids[:known]:
            return ()
        return proposal.token_ids[known:]

    def leads_to(self, proposal: Proposal) -> bool:
        """Whether `proposal` begins on this path, at its end or before it."""
        position = proposal.position
        return position <= len(self.tokens) and self._digests[position] == proposal.base_digest
