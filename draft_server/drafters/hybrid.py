"""The hybrid drafter: lookup where much matches, else the model."""

from draft_server.drafters.model import Deliver, ModelDrafter
from draft_server.prompt_lookup import PromptLookup
from paceline.engine.interfaces import Span
from paceline.protocol.session import Opening


class HybridDrafter(ModelDrafter):
    """A model drafter that looks first whether the same tokens came before.

    least_match: tokens that must match before lookup is trusted more than the model.
    """

    least_match = 6

    def __init__(self, opening: Opening, deliver: Deliver, lookup: PromptLookup) -> None:
        """As ModelDrafter."""
        super().__init__(opening, deliver)
        self._lookup = lookup

    def plan(self, cached: int) -> Span | None:
        """What lookup leaves to the model."""
        self._catch_up()
        self._lookup.commit(self.ahead.committed)
        while self.ahead.wanted_of_lookup > 0:
            proposal = self.ahead.look_up(self._lookup, self.least_match)
            if not proposal.token_ids:
                break
            self.hand_out(proposal)
        return super().plan(cached)
