"""What Prometheus sees of the target's verdicts; the engine's own metrics stand beside them."""

from prometheus_client import CollectorRegistry, Counter

from paceline.protocol.verdict import Verdict


class TargetMetrics:
    """Counters of what was verified."""

    def __init__(self, registry: CollectorRegistry) -> None:
        """Register with `registry`."""
        self._rounds = Counter(
            "paceline_target_rounds",
            "Steps that verified draft tokens, one for each session in the batch.",
            registry=registry,
        )
        self._target_only_steps = Counter(
            "paceline_target_only_steps",
            "Ordinary decode steps, one for each session in the batch: no draft token of it was "
            "verified.",
            registry=registry,
        )
        self._verified = Counter(
            "paceline_target_verified_tokens",
            "Draft tokens that this target verified.",
            registry=registry,
        )
        self._accepted = Counter(
            "paceline_target_accepted_tokens",
            "Draft tokens that this target accepted: its own pick was the same.",
            registry=registry,
        )
        self._branch_verified = Counter(
            "paceline_target_branch_verified_tokens",
            "Draft tokens of branches that this target verified beside the draft tokens.",
            registry=registry,
        )
        self._branch_accepted = Counter(
            "paceline_target_branch_accepted_tokens",
            "Draft tokens of branches that this target accepted: they were its own picks, in place "
            "of a draft token and behind it.",
            registry=registry,
        )

    def observe(self, verdict: Verdict) -> None:
        """Count a verdict."""
        (self._rounds if verdict.verified else self._target_only_steps).inc()
        for counter, tokens in (
            (self._verified, verdict.verified),
            (self._accepted, verdict.accepted),
            (self._branch_verified, verdict.branch_verified),
            (self._branch_accepted, verdict.branch_accepted),
        ):
            if tokens:  # adding nothing takes as long as adding something
                counter.inc(tokens)
