"""What Prometheus sees of the draft's proposals; the engine's own metrics stand beside them."""

from collections.abc import Iterable

from prometheus_client import CollectorRegistry, Counter

from draft_server.run_ahead import RunAhead
from paceline.protocol.proposal import Drafter, Proposal


class DraftMetrics:
    """Counters of what was proposed."""

    def __init__(self, registry: CollectorRegistry) -> None:
        """Register with `registry`."""
        drafted = Counter(
            "paceline_draft_proposed_tokens",
            "Draft tokens sent, by what drafted them. Those of branches count, and once more where "
            "the branch is taken.",
            ["drafter"],
            registry=registry,
        )
        self._drafted = {drafter: drafted.labels(drafter.value) for drafter in Drafter}
        self._branch_tokens = Counter(
            "paceline_draft_branch_tokens",
            "Draft tokens made behind second-best tokens, of streams that ended.",
            registry=registry,
        )
        self._taken = Counter(
            "paceline_draft_branches_taken",
            "Branches of streams that ended that the target took: it picked the second-best token "
            "that the branch begins with.",
            registry=registry,
        )

    def observe_end(self, ahead: RunAhead) -> None:
        """Count what came of a stream's branches."""
        self._branch_tokens.inc(ahead.branch_tokens)
        self._taken.inc(ahead.branches_taken)

    def observe(self, proposals: Iterable[Proposal]) -> None:
        """Count what is sent."""
        for proposal in proposals:
            self._drafted[proposal.drafter].inc(len(proposal.token_ids))
