"""The hybrid drafter: prompt lookup where many tokens match, else the model."""

from draft_server.drafters.base import DraftContext
from draft_server.drafters.model import ModelDrafter
from paceline.engine.interfaces import Span


class HybridDrafter(ModelDrafter):
    """A model drafter that looks first whether the same tokens came before.

    least_match: tokens that must match before lookup is trusted more than the model.
    """

    least_match = 6

    def __init__(self, context: DraftContext) -> None:
        """As ModelDrafter."""
        super().__init__(context)
        self._lookup = context.recent.lookup(context.opening)

    def plan(self, cached: int) -> Span | None:
        """What lookup leaves to the model."""
        self._catch_up()
        self._lookup.commit(self.ahead.committed)
        while self.ahead.wanted_of_lookup > 0:
            proposal = self.ahead.look_up(self._lookup, self.least_match)
            if not proposal.token_ids:
                break
            self._hand_out(proposal)
        return super().plan(cached)
