"""One request's tokens: those that vLLM has decided, and the draft tokens behind them. Pure."""

from collections.abc import Iterable, Sequence

from paceline.protocol.advance import Advance
from paceline.protocol.proposal import Proposal
from paceline.protocol.token_path import TokenPath


class DraftedPath:
    """Takes proposals and decisions in any order; a proposal off the path is left out."""

    def __init__(self, prompt: Iterable[int], lookahead: int) -> None:
        """Begin behind the prompt. lookahead: how far the draft may be ahead."""
        self._path = TokenPath(prompt)
        self._committed = self._told = len(self._path)
        self._lookahead = lookahead

    def propose(self, proposal: Proposal) -> None:
        """Take draft tokens that follow what is here."""
        self._path.extend(self._path.remainder(proposal))

    def commit(self, tokens: Sequence[int]) -> None:
        """These were decided; draft tokens that agree with them stay."""
        for token in tokens:
            at = self._committed
            if at == len(self._path) or self._path.tokens[at] != token:
                self._path.truncate(at)
                self._path.extend((token,))
            self._committed += 1

    def drafts(self, length: int, most: int) -> list[int]:
        """Draft tokens behind the first `length`; none where so many are not decided here."""
        if length != self._committed:
            return []
        return self._path.tokens[length : length + most]

    def advance(self) -> Advance:
        """What the draft is to be told: all that was decided since it was told last."""
        start, self._told = self._told, self._committed
        tokens = tuple(self._path.tokens[start : self._committed])
        return Advance(start, tokens, self._lookahead)
