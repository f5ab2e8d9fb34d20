"""What Prometheus sees of the draft's proposals; the engine's own metrics stand beside them."""

from prometheus_client import CollectorRegistry, Counter

from paceline.session import Proposal


class DraftMetrics:
    """Counters of what was proposed."""

    def __init__(self, registry: CollectorRegistry) -> None:
        """Register with `registry`."""
        self._drafted = Counter(
            "paceline_draft_proposed_tokens", "Draft tokens sent.", ["drafter"], registry=registry
        )

    def observe(self, proposal: Proposal) -> None:
        """Count a proposal."""
        self._drafted.labels(proposal.drafter.value).inc(len(proposal.token_ids))
