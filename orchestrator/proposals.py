"""What the draft has guessed and the target has not judged yet. Pure."""

from orchestrator.acceptance import Guess
from paceline.ahead import AheadPath
from paceline.session import Proposal


class ProposalBuffer:
    """Draft tokens that lie on the confirmed path, in order, ready to be verified."""

    def __init__(self, confirmed: tuple[int, ...], vocabulary_size: int) -> None:
        """Begin at the end of `confirmed`; ids of vocabulary_size and over are never kept."""
        self._path = AheadPath(confirmed)
        self._vocabulary_size = vocabulary_size
        self._guesses: list[Guess] = []

    def __len__(self) -> int:
        """Tokens that are ready."""
        return len(self._path) - self._path.confirmed

    @property
    def guesses(self) -> list[Guess]:
        """What is known of the tokens that are ready."""
        return self._guesses

    @property
    def last(self) -> int | None:
        """The last token that is ready."""
        return self._path.tokens[-1] if len(self) else None

    def add(self, proposal: Proposal) -> int:
        """Take what of `proposal` continues the guesses; returns how many tokens that is.

        A proposal off the path, made before the draft knew of a rejection, adds nothing.
        """
        tokens = self._path.remainder(proposal)
        if any(token >= self._vocabulary_size for token in tokens):
            return 0
        self._path.extend(tokens)
        known = len(proposal.token_ids) - len(tokens)
        confidences = proposal.confidences[known:]
        confidences += (0.0,) * (len(tokens) - len(confidences))
        self._guesses += [Guess(proposal.drafter, confidence) for confidence in confidences]
        return len(tokens)

    def ends_at(self, proposal: Proposal) -> bool:
        """Whether `proposal` begins just behind what is here."""
        return proposal.position == len(self._path) and proposal.base_digest == self._path.digest

    def confirm(self, tokens: tuple[int, ...]) -> bool:
        """Confirm tokens the target decided; guesses that differ go, with all behind them.

        Returns whether none differed.
        """
        length = len(self._path)
        stayed = self._path.confirm(tokens) == length
        ready = len(self)
        self._guesses = self._guesses[-ready:] if ready else []
        return stayed

    def offer(self, at_most: int) -> Proposal:
        """The first `at_most` tokens as a proposal, which may be empty. They stay in the buffer."""
        start = self._path.confirmed
        return Proposal(
            position=start,
            base_digest=self._path.digest_before(start),
            token_ids=tuple(self._path.tokens[start : start + at_most]),
            confidences=tuple(guess.confidence for guess in self._guesses[:at_most]),
        )
