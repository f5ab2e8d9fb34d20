"""Draws docs/trace.png: one trace of three real processes. `python -m tests.trace_picture`."""

import asyncio
import os
import tempfile
from pathlib import Path

from paceline.protocol.generation import GenerateRequest, Speculation
from tests.collector import Collector, SentSpan, collecting
from tests.processes import running, start

PAGE = Path(__file__).parents[1] / "docs" / "trace.png"
COLOURS = {
    "paceline-orchestrator": "#00695c",
    "paceline-target": "#ef6c00",
    "paceline-draft": "#5e35b1",
}


async def traced(folder: Path, collector: Collector) -> list[SentSpan]:
    """The trace of one request, of processes of their own that inherit this one's environment."""
    os.environ |= {
        "OTEL_EXPORTER_OTLP_ENDPOINT": collector.endpoint,
        "OTEL_BSP_SCHEDULE_DELAY": "50",
    }
    target = start(folder, "target", "target_server", "--model=simulated:step_ms=10,acceptance=0.8")
    flags = "--model=simulated:step_ms=2,acceptance=0.8", "--drafter=model"
    draft = start(folder, "draft", "draft_server", *flags)
    async with running(folder, [target], [draft]) as (client, _):
        asked = GenerateRequest("a", max_tokens=24, speculation=Speculation.FORCE, ignore_eos=True)
        await client.generate(asked).result()
        await collector.has(simulated=1, stream=1, Verify=2, Draft=2)
    return sorted(collector.spans, key=lambda one: one.start)


def draw(spans: list[SentSpan], path: Path) -> None:
    """A waterfall, each span in the colour of its process."""
    import matplotlib as mpl

    mpl.use("agg")
    from matplotlib import pyplot as plt
    from matplotlib.patches import Rectangle

    rows = _in_order(spans, "")
    zero = spans[0].start
    figure, axes = plt.subplots(figsize=(11, 0.24 * len(rows) + 1.2))
    for row, (depth, span) in enumerate(rows):
        begin, length = (span.start - zero) / 1e6, (span.end - span.start) / 1e6
        axes.barh(row, max(length, 0.3), left=begin, color=COLOURS[span.service], height=0.7)
        name = f"{'   ' * depth}{span.name.removeprefix('paceline.v1.')}"
        axes.text(-0.31, row, name, transform=axes.get_yaxis_transform(), va="center", fontsize=8)
    axes.set_ylim(len(rows) - 0.5, -0.5)
    axes.set_yticks([])
    axes.set_xlabel("ms since the request came")
    handles = [Rectangle((0, 0), 1, 1, color=colour) for colour in COLOURS.values()]
    axes.legend(handles, COLOURS, loc="lower right", fontsize=8)
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)
    figure.subplots_adjust(left=0.24, right=0.98, top=0.98, bottom=0.1)
    figure.savefig(path, dpi=110)


def _in_order(spans: list[SentSpan], parent: str, depth: int = 0) -> list[tuple[int, SentSpan]]:
    """Each span behind its parent, with its depth."""
    rows = []
    for span in spans:
        if span.parent_id == parent:
            rows += [(depth, span), *_in_order(spans, span.span_id, depth + 1)]
    return rows


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder, collecting() as sent_to:
        draw(asyncio.run(traced(Path(folder), sent_to)), PAGE)
