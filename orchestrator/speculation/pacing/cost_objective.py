"""Cost under a bound of latency, which the pacer may be told to minimise in place of time. Pure."""

import math
from dataclasses import dataclass

from orchestrator.speculation.pacing.draft_length import (
    LEAST_SHARED_SPEEDUP,
    NEARLY,
    SharedCosts,
    expected_tokens,
)


@dataclass(frozen=True, slots=True)
class CostObjective:
    """The least cost of a token among the draft lengths that are fast enough.

    target_price, draft_price: of a second of a server's steps; only their ratio matters.
    max_token_seconds: most that a token may be expected to take.
    """

    target_price: float
    draft_price: float
    max_token_seconds: float = math.inf

    def length(
        self, acceptance: float, costs: SharedCosts, at_most: int, held: int | None = None
    ) -> int | None:
        """The cheapest draft length within the bound; None where there is none.

        acceptance: of each draft token. held: the length so far, which stays while it is within the
        bound and nearly the cheapest. The shorter of two that cost the same.
        """
        every = [(0, 1.0), *expected_tokens(acceptance, at_most)]
        cost = {
            length: self._round_cost(length, costs) / tokens
            for length, tokens in every
            if _round_seconds(length, costs) <= self.max_token_seconds * tokens
        }
        if not cost:
            return None
        least = min(cost, key=lambda length: cost[length])
        stays = held is not None and NEARLY * cost.get(held, math.inf) <= cost[least]
        return held if stays else least

    def _round_cost(self, length: int, costs: SharedCosts) -> float:
        """Of all streams that share the steps: each has the same share of both servers' steps."""
        target_seconds = costs.decode_step + length * costs.token
        return self.target_price * target_seconds + self.draft_price * length * costs.following


def _round_seconds(length: int, costs: SharedCosts) -> float:
    """Expected; with a margin for what asking takes, which the costs leave out."""
    return costs.round(length) * (LEAST_SHARED_SPEEDUP if length else 1.0)
