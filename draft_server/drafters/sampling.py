"""What a draft model's logits become: draft tokens, by the target's sampler and in its ids."""

from collections.abc import Sequence

from paceline.engine.interfaces import Logits, Span
from paceline.engine.sampling.history import History
from paceline.engine.sampling.requests import Pick, PickRequest
from paceline.engine.sampling.sampler import pick_with_second
from paceline.engine.target_ids import target_ids
from paceline.protocol.proposal import DraftToken
from paceline.protocol.session import Opening


class DraftSampler:
    """Picks the draft tokens of one stream.

    It uses the target's noise, penalties and stop tokens. A draft model that agrees with the
    target thus drafts what the target will pick.
    """

    def __init__(self, opening: Opening) -> None:
        """`opening` says how the target samples, and what ids it has."""
        self._opening = opening
        self._target_ids = target_ids(opening.vocabulary)

    def model_ids(self, tokens: Sequence[int]) -> tuple[int, ...]:
        """Tokens of the stream in the draft model's ids."""
        return self._target_ids.to_draft(tokens)

    def span(self, start: int, tokens: Sequence[int], history: History) -> Span:
        """Tokens of the stream from `start` on, to pick the one behind `history` from the last.

        On the model's device where ids are the same: the logits of others are mapped here.
        """
        picks = None if self._opening.vocabulary is not None else lambda: self._picks(history)
        return Span(start, self.model_ids(tokens[start:]), 1, picks)

    def _picks(self, history: History) -> PickRequest:
        opening = self._opening
        return PickRequest.of(opening.sampling, opening.seed, opening.stop_token_ids, history)

    def pick(self, given: Logits | Pick, history: History) -> DraftToken:
        """The token behind `history`, and the second best, of the model's logits, [vocabulary]."""
        if isinstance(given, Pick):
            return DraftToken(given.token, given.margin, second=given.second)
        opening = self._opening
        row, stop = self._target_ids.from_draft(given), opening.stop_token_ids
        best, margin, second = pick_with_second(row, opening.sampling, opening.seed, history, stop)
        return DraftToken(best, margin, second=second)
