"""What a draft model's logits become: draft tokens, by the target's sampler and in its ids."""

from collections.abc import Sequence

from paceline.engine.interfaces import Logits
from paceline.engine.sampling.history import History
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

    def pick(self, logits: Logits, history: History) -> DraftToken:
        """The token behind `history`, and the second best, of the model's logits, [vocabulary]."""
        opening = self._opening
        row, stop = self._target_ids.from_draft(logits), opening.stop_token_ids
        best, margin, second = pick_with_second(row, opening.sampling, opening.seed, history, stop)
        return DraftToken(best, margin, second=second)
