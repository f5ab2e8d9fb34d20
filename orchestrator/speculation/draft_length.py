"""Sharing the target's steps with other streams: how many tokens all of them wait for. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass

from orchestrator.speculation.acceptance import StreamAcceptance
from orchestrator.speculation.plan import worth_verifying
from paceline.protocol.proposal import DraftToken

LATE = 1.3
"""Draft tokens that take so many times as long as expected are not waited for."""
NEARLY = 0.95
"""A length is preferred to longer ones that are hardly faster: they suffer more from all delays."""
LEAST_SHARED_SPEEDUP = 1.1
"""What a length must bring over ordinary decode steps: the formula leaves out what asking takes."""


@dataclass(frozen=True, slots=True)
class SharedPlan:
    """The same for all streams that share the target's steps, so that they ask together.

    Who asks before the others waits for them, and who asks after them waits for a whole step. So
    all wait for `enough` draft tokens, which take wait_seconds to make, and LATE times as long at
    most.
    """

    acceptance: StreamAcceptance
    shared_throughput: float
    token_seconds: float
    enough: int
    at_most: int
    lookahead: int
    wait_seconds: float
    continue_steps: int = 0
    branches: int = 0

    @property
    def ngram_lookahead(self) -> int:
        """See Plan."""
        return max(self.lookahead, self.at_most)

    def max_wait(
        self, draft_tokens: Sequence[DraftToken], wait: float | None, waited: float
    ) -> float:
        """See Plan."""
        missing = len(draft_tokens) < self.enough
        return max(0.0, LATE * self.wait_seconds - waited) if missing else 0.0

    def length(self, draft_tokens: Sequence[DraftToken]) -> int:
        """See Plan."""
        row = self.shared_throughput * self.token_seconds
        return worth_verifying(self.acceptance, draft_tokens[: self.at_most], row)


@dataclass(frozen=True, slots=True)
class Costs:
    """Seconds: of an decode step; of a row for each stream; until a first token; between tokens."""

    plain: float
    row: float
    first: float
    following: float

    def wait(self, length: int) -> float:
        """Until so many draft tokens are there."""
        return self.first + (length - 1) * self.following if length else 0.0


def best_length(acceptance: float, costs: Costs, at_most: int, held: int | None = None) -> int:
    """The draft length at which streams that take turns with their drafts are fastest.

    acceptance: of each draft token. held: the length so far, which stays while it is nearly the
    best. 0 when none brings enough. Leviathan et al. 2023, arXiv 2211.17192, theorem 3.8, with
    what waiting and rows cost.
    """
    speeds = [LEAST_SHARED_SPEEDUP / costs.plain]
    right = tokens = 1.0
    for length in range(1, at_most + 1):
        right *= acceptance
        tokens += right
        speeds.append(tokens / (costs.plain + costs.wait(length) + length * costs.row))
    fastest = max(speeds)
    nearly = [length for length, speed in enumerate(speeds) if speed >= NEARLY * fastest]
    return held if held in nearly else nearly[0]
