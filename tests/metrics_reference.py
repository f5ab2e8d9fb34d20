"""docs/metrics.md: every metric that the three servers export, with type, labels and help text.

python -m tests.metrics_reference writes it anew, from what real servers export after a stream.
"""

import asyncio
import re
from collections.abc import Iterable
from dataclasses import dataclass

from prometheus_client import CollectorRegistry
from prometheus_client.core import Metric

from orchestrator.serving.metrics import PARTS
from orchestrator.speculation.reason import Reason
from paceline.errors import PacelineError
from paceline.protocol.generation import FinishReason, GenerateRequest, Speculation
from paceline.protocol.proposal import Drafter
from paceline.rpc.process_metrics import process_registry
from tests import servers
from tests.reference_pages import DOCS, replaced, table

PAGE = DOCS / "metrics.md"
SUFFIXES = {
    "counter": ("_total",),
    "histogram": ("_bucket", "_count", "_sum"),
    "gauge": ("",),
    "info": ("_info",),
}
"""What is behind a family's name in the names of its series, by its type."""
_OF_SERIES = {"le"}


@dataclass(frozen=True, slots=True)
class Family:
    """A metric as it is scraped, without its values."""

    name: str
    kind: str
    labels: tuple[str, ...]
    text: str

    @property
    def series(self) -> list[str]:
        """Names of its series."""
        return [self.name + suffix for suffix in SUFFIXES[self.kind]]

    @property
    def shown(self) -> str:
        """Its name as one writes it in a query."""
        return self.name if self.kind == "histogram" else self.series[0]


def families(registry: CollectorRegistry) -> list[Family]:
    """What a registry exports, by name."""
    return sorted((_family(metric) for metric in registry.collect()), key=lambda one: one.name)


def _family(metric: Metric) -> Family:
    known = [*getattr(metric, "_labelnames", ())]
    for sample in metric.samples:
        known += [label for label in sample.labels if label not in {*known, *_OF_SERIES}]
    return Family(metric.name, metric.type, tuple(known), metric.documentation)


async def registries() -> dict[str, CollectorRegistry]:
    """Of each server, once a stream with a draft has run."""
    registry = CollectorRegistry()
    asked = GenerateRequest("a", max_tokens=20, speculation=Speculation.FORCE)
    async with (
        servers.target("simulated:step_ms=2") as target,
        servers.draft("simulated:step_ms=1", drafter="model") as draft,
        servers.orchestrator([target.address], [f"x={draft.address}"], registry=registry) as client,
    ):
        await client.generate(asked).result()
        await servers.nothing_is_left(target, draft)
    return {"Orchestrator": registry, "Target": target.registry, "Draft": draft.registry}


def sections(of: dict[str, CollectorRegistry]) -> dict[str, list[Family]]:
    """What each server exports; what several do comes once, behind."""
    found = {name: families(one) for name, one in of.items()}
    names = {server: {one.name for one in some} for server, some in found.items()}
    both = names["Target"] & names["Draft"]
    every = both & names["Orchestrator"]
    shared = [one for one in found["Target"] if one.name in every] + families(process_registry())
    return {
        **{name: [one for one in some if one.name not in both] for name, some in found.items()},
        "Target and draft": [one for one in found["Target"] if one.name in both - every],
        "Every server": sorted(shared, key=lambda one: one.name),
    }


def words_of_labels() -> dict[str, Iterable[str]]:
    """The values of those labels whose values are in the code."""
    errors = sorted(kind("").word for kind in PacelineError.__subclasses__())
    return {
        "outcome": [*(one.value for one in FinishReason), *errors],
        "part": PARTS,
        "drafter": [one.value for one in Drafter],
    }


def reasons() -> dict[str, str]:
    """What each value of the label reason means."""
    text = " ".join((Reason.__doc__ or "").split())
    found = dict(re.findall(r"(\w+): (.+?)\.(?= \w+:|$)", text))
    return {one.value: found[one.value] for one in Reason}


def tables(found: dict[str, list[Family]]) -> str:
    """All that the page has of them, below its introduction."""
    parts = [
        table(f"## {server}", ["metric", "type", "labels", "what"], map(_row, some))
        for server, some in found.items()
    ]
    words = ([f"`{name}`", _code(values)] for name, values in words_of_labels().items())
    why = ([f"`{name}`", text] for name, text in reasons().items())
    parts += [table("## Words", ["label", "values"], words)]
    parts += [table("## Reasons", ["reason", "what"], why)]
    return "\n".join(parts)


def page(found: dict[str, list[Family]]) -> str:
    """The page as it is to be: its introduction stays."""
    return replaced(PAGE, "tests.metrics_reference", tables(found))


def _row(one: Family) -> list[str]:
    return [f"`{one.shown}`", one.kind, _code(one.labels), one.text]


def _code(words: Iterable[str]) -> str:
    return ", ".join(f"`{word}`" for word in words)


if __name__ == "__main__":
    PAGE.write_text(page(sections(asyncio.run(registries()))))
