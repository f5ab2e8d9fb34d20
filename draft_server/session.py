"""Running ahead: what a draft has guessed beyond the confirmed path. Pure: no I/O, no clock."""

from collections import deque

from paceline.ahead import AheadPath
from paceline.errors import InvalidArgument
from paceline.session import Advance, Opening, Proposal


class DraftSession:
    """Confirmed tokens, and the guesses that follow them up to the window."""

    def __init__(self, opening: Opening) -> None:
        """Begin at the end of the opening's tokens, with no window."""
        self._opening = opening
        self._path = AheadPath(opening.prompt_token_ids + opening.output_token_ids)
        self._window = 0
        self._inbox: deque[Advance] = deque()
        self._expected = self._path.confirmed

    @property
    def tokens(self) -> list[int]:
        """Confirmed tokens and guesses."""
        return self._path.tokens

    def post(self, advance: Advance) -> None:
        """Take an Advance, on any thread; InvalidArgument when it leaves a gap or overlaps."""
        if advance.position != self._expected:
            limit = f"{self._expected}, where the confirmed path ends"
            raise InvalidArgument.of("advance.position", advance.position, limit)
        self._expected += len(advance.token_ids)
        self._inbox.append(advance)

    def catch_up(self) -> int:
        """Apply what was posted; returns the length up to which the tokens stayed as they were."""
        unchanged = len(self._path)
        while self._inbox:
            advance = self._inbox.popleft()
            unchanged = min(unchanged, self._path.confirm(advance.token_ids))
            self._window = advance.window
        return unchanged

    @property
    def wanted(self) -> int:
        """Guesses to make now, by window and by what the output has room for; may be negative.

        The target adds a token of its own, so the last one of the output is never guessed.
        """
        room = self._opening.max_length - self._path.confirmed - 1
        guessed = len(self._path) - self._path.confirmed
        return min(self._window, room) - guessed

    def propose(self, tokens: tuple[int, ...], confidences: tuple[float, ...]) -> Proposal:
        """Append guesses; returns them as a proposal."""
        proposal = Proposal(len(self._path), self._path.digest, tokens, confidences)
        self._path.extend(tokens)
        return proposal
