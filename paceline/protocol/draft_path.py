"""Committed tokens and the draft tokens behind them: draft and orchestrator both keep them."""

from paceline.protocol.token_path import TokenPath


class DraftPath(TokenPath):
    """Committed tokens, then draft tokens. Digests run through both."""

    def __init__(self, committed: tuple[int, ...]) -> None:
        """Begin without draft tokens."""
        super().__init__(committed)
        self.committed = len(self)

    @property
    def draft_tokens(self) -> list[int]:
        """The tokens beyond the committed ones."""
        return self.tokens[self.committed :]

    def commit(self, tokens: tuple[int, ...]) -> int:
        """Commit tokens. Draft tokens that differ go, with all behind them.

        Returns the length up to which the path stayed as it was.
        """
        end = self.committed + len(tokens)
        agreed = _agreed(self.tokens[self.committed : end], tokens)
        stayed = len(self)
        if agreed < len(tokens):
            stayed = self.committed + agreed
            self.truncate(stayed)
            self.extend(tokens[agreed:])
        self.committed = end
        return stayed


def _agreed(drafted: list[int], tokens: tuple[int, ...]) -> int:
    """How many leading tokens are the same."""
    pairs = zip(drafted, tokens, strict=False)
    unequal = (count for count, (one, other) in enumerate(pairs) if one != other)
    return next(unequal, min(len(drafted), len(tokens)))
