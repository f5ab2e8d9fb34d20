"""Running ahead: what a draft has guessed beyond the confirmed path. Pure: no I/O, no clock."""

from collections import deque

from draft_server.lookup import Lookup
from paceline.ahead import AheadPath
from paceline.errors import InvalidArgument
from paceline.session import Advance, Drafter, Opening, Proposal


class DraftSession:
    """Confirmed tokens, and the guesses that follow them up to the window."""

    def __init__(self, opening: Opening) -> None:
        """Begin at the end of the opening's tokens, with no window."""
        self._opening = opening
        self._path = AheadPath(opening.prompt_token_ids + opening.output_token_ids)
        self._window = self._lookup_window = 0
        self._awaited: int | None = None
        self._inbox: deque[Advance] = deque()
        self._expected = self._path.confirmed

    @property
    def tokens(self) -> list[int]:
        """Confirmed tokens and guesses."""
        return self._path.tokens

    @property
    def confirmed(self) -> list[int]:
        """Confirmed tokens."""
        return self._path.tokens[: self._path.confirmed]

    @property
    def has_news(self) -> bool:
        """Whether something was posted that catch_up has not applied."""
        return bool(self._inbox)

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
            self._awaited = self._path.confirmed + advance.awaited if advance.awaited else None
            self._lookup_window = max(advance.window, advance.lookup_window)
        return unchanged

    def take_awaited(self) -> bool:
        """Whether the guesses that are waited for are there; only once for each Advance."""
        there = self._awaited is not None and len(self._path) >= self._awaited
        if there:
            self._awaited = None
        return there

    @property
    def wanted(self) -> int:
        """Guesses to make now, by window and by what the output has room for; may be negative."""
        return self._wanted(self._window)

    @property
    def wanted_of_lookup(self) -> int:
        """The same for lookup."""
        return self._wanted(self._lookup_window)

    def _wanted(self, window: int) -> int:
        """The target adds a token of its own, so the last one of the output is never guessed."""
        room = self._opening.max_length - self._path.confirmed - 1
        guessed = len(self._path) - self._path.confirmed
        return 0 if self._stopped else min(window, room) - guessed

    @property
    def _stopped(self) -> bool:
        """Whether the tokens end with one that ends the output."""
        has_output = len(self._path) > len(self._opening.prompt_token_ids)
        return has_output and self._path.tokens[-1] in self._opening.stop_token_ids

    def look_up(self, lookup: Lookup, least: int) -> Proposal:
        """Guess what followed the same tokens before, where at least `least` of them match.

        The proposal, appended, ends at a stop token; it is empty without a match.
        """
        match = lookup.find(self.tokens, self.wanted_of_lookup, least)
        tokens = self._up_to_stop(match.following)
        confidences = (float(match.length),) * len(tokens)
        return self.propose(tokens, confidences, Drafter.NGRAM)

    def _up_to_stop(self, tokens: tuple[int, ...]) -> tuple[int, ...]:
        for index, token in enumerate(tokens):
            if token in self._opening.stop_token_ids:
                return tokens[: index + 1]
        return tokens

    def propose(
        self, tokens: tuple[int, ...], confidences: tuple[float, ...], drafter: Drafter
    ) -> Proposal:
        """Append guesses; returns them as a proposal."""
        proposal = Proposal(len(self._path), self._path.digest, tokens, confidences, drafter)
        self._path.extend(tokens)
        return proposal
