"""What Prometheus sees of candidate drafts that are shadowed: read when scraped."""

from collections.abc import Iterator

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from orchestrator.backends.shadow import Shadows

_COUNTERS = {
    "outputs": "Outputs that the candidate draft was measured on, whole or as far as it came.",
    "dropped": "Outputs that were drawn and left out: too many waited, or the candidate was not "
    "usable.",
    "failed": "Outputs that the candidate draft did not get through.",
    "judged": "Draft tokens of the candidate, up to the first wrong one of each round.",
    "accepted": "Of the judged draft tokens of the candidate, those that are the target's own.",
}
_NAMES = {
    "outputs": "shadow_outputs",
    "dropped": "shadow_outputs_dropped",
    "failed": "shadow_outputs_failed",
    "judged": "shadow_judged_tokens",
    "accepted": "shadow_accepted_tokens",
}


class ShadowCollector(Collector):
    """Counters and the acceptance rate of each candidate."""

    def __init__(self, shadows: Shadows) -> None:
        """Read them when scraped."""
        self._shadows = shadows

    def collect(self) -> Iterator[Metric]:
        """The families."""
        all_status = [draft.status for draft in self._shadows.drafts]
        for name, text in _COUNTERS.items():
            counter = CounterMetricFamily(f"paceline_{_NAMES[name]}", text, labels=["draft"])
            for status in all_status:
                counter.add_metric([status.name], getattr(status.counts, name))
            yield counter
        gauge = GaugeMetricFamily(
            "paceline_shadow_acceptance_rate",
            "Share of the candidate draft's judged tokens that are the target's own, 0 to 1, of "
            "the model that it has now.",
            labels=["draft"],
        )
        for status in all_status:
            if status.acceptance is not None:
                gauge.add_metric([status.name], status.acceptance.value)
        yield gauge
