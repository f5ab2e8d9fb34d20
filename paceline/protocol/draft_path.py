"""A confirmed path with guesses ahead of it: what draft and orchestrator both keep of a stream."""

from itertools import takewhile

from paceline.protocol.token_path import TokenPath


class AheadPath(TokenPath):
    """Confirmed tokens, then guesses. Digests run through both."""

    def __init__(self, confirmed: tuple[int, ...]) -> None:
        """Begin without guesses."""
        super().__init__(confirmed)
        self.confirmed = len(self)

    @property
    def guesses(self) -> list[int]:
        """The tokens beyond the confirmed ones."""
        return self.tokens[self.confirmed :]

    def confirm(self, tokens: tuple[int, ...]) -> int:
        """Confirm tokens. Guesses that differ go, with all behind them.

        Returns the length up to which the path stayed as it was.
        """
        guessed = self.tokens[self.confirmed : self.confirmed + len(tokens)]
        agreed = _agreed(guessed, tokens)
        stayed = len(self)
        if agreed < len(tokens):
            stayed = self.confirmed + agreed
            self.truncate(stayed)
            self.extend(tokens[agreed:])
        self.confirmed += len(tokens)
        return stayed


def _agreed(guessed: list[int], tokens: tuple[int, ...]) -> int:
    """How many leading tokens are the same."""
    same = takewhile(lambda pair: pair[0] == pair[1], zip(guessed, tokens, strict=False))
    return sum(1 for _ in same)
