"""The dashboard's panels, drawn of what a real Prometheus has of real servers under traffic.

python -m benchmarks.dashboard: two simulated targets with little KV, a good draft and a bad one,
and clients some of whose calls are wrong; half way one target ends. Writes docs/dashboard.png
after two minutes.
"""

import argparse
import asyncio
import contextlib
import itertools
import re
import tempfile
import time
from collections.abc import AsyncIterator
from pathlib import Path

import matplotlib as mpl
from rich.console import Console

from benchmarks.panels import PANELS, Panel, filled
from benchmarks.prometheus import Prometheus, prometheus
from paceline.client import Client
from paceline.errors import PacelineError
from paceline.protocol.generation import GenerateRequest
from paceline.protocol.sampling import SamplingParams
from paceline_tools.local_servers import answers, running
from paceline_tools.server_commands import (
    THROWN_AWAY,
    draft_command,
    orchestrator_of,
    target_command,
)

mpl.use("Agg")

from matplotlib import pyplot as plt
from matplotlib.axes import Axes

Series = dict[str, list[tuple[float, float]]]
PICTURE = Path(__file__).parents[1] / "docs" / "dashboard.png"
PORT, PROMETHEUS_PORT = 7910, 7911
METRICS = {
    name: 7912 + index for index, name in enumerate(("orchestrator", "t1", "t2", "d1", "d2"))
}
TARGET = "simulated:step_ms=20,token_ms=0.2"
DRAFTS = {
    "d1": "simulated:step_ms=2,acceptance=0.85/0.75",
    "d2": "simulated:step_ms=2,acceptance=0.3",
}
KV = ("--kv-tokens=4096", "--kv-reserve-tokens=0")
CLIENTS = 12
WRONG_EVERY = 7
"""One call in so many asks for what no model can."""
INTERVAL, STEP = "10s", 1.0
"""Of rates, and between the points of a line, in seconds."""
COLUMNS = 3
MANY, LONG = 8, 30
"""Lines of a panel beyond which none is named, and letters of a name that stands alone."""
UNITS = {
    "percentunit": (1.0, "share"),
    "ops": (1.0, "per second"),
    "bytes": (1e-6, "MB"),
    "none": (1.0, ""),
    "x": (1.0, "times"),
}
"""Scale and name of units in the picture."""
_LABEL = re.compile(r"\{\{(\w+)\}\}")


@contextlib.asynccontextmanager
async def served(folder: Path) -> AsyncIterator[contextlib.AsyncExitStack]:
    """All of them, ready; the stack ends the second target."""
    drafts = [f"{name}=unix:{folder / name}" for name in DRAFTS]
    targets = [f"unix:{folder / name}" for name in ("t1", "t2")]
    commands = {
        "t1": target_command(TARGET, folder / "t1", [*_flags("t1"), *KV]),
        "orchestrator": orchestrator_of(PORT, targets, drafts, _flags("orchestrator")),
        **{
            name: draft_command(model, "model", folder / name, _flags(name))
            for name, model in DRAFTS.items()
        },
    }

    async def ready() -> None:
        await answers(PORT, drafts=1)

    async def started() -> None:
        while not await _all_answer():  # noqa: ASYNC110 - they are other processes
            await asyncio.sleep(0.1)

    second = {"t2": target_command(TARGET, folder / "t2", [*_flags("t2"), *KV])}
    async with running(commands, ready), contextlib.AsyncExitStack() as stack:
        await stack.enter_async_context(running(second, started))
        yield stack


async def _all_answer() -> bool:
    """Whether the orchestrator has all the others."""
    async with Client(f"127.0.0.1:{PORT}") as client:
        found = (await client.status()).servers
    return sum(one.reachable for one in found) == len(METRICS) - 1


def _flags(server: str) -> list[str]:
    return [*THROWN_AWAY, f"--metrics-port={METRICS[server]}"]


@contextlib.asynccontextmanager
async def traffic() -> AsyncIterator[None]:
    """Clients, each of whom asks one thing after the other, while the context lasts."""
    async with Client(f"127.0.0.1:{PORT}") as client, asyncio.TaskGroup() as tasks:
        asking = [tasks.create_task(_ask(client, index)) for index in range(CLIENTS)]
        try:
            yield
        finally:
            for task in asking:
                task.cancel()


async def _ask(client: Client, index: int) -> None:
    for number in itertools.count():
        wrong = (number + index) % WRONG_EVERY == 0
        request = GenerateRequest(
            f"What clients say first is the same. Client {index}, question {number}. " * 4,
            sampling=SamplingParams(temperature=0),
            max_tokens=60 + 40 * (index % 8),
            ignore_eos=True,
            seed=1,
            model="no such model" if wrong else "",
        )
        with contextlib.suppress(PacelineError):
            await client.generate(request).result()


async def collect(seconds: float) -> dict[str, Series]:
    """Lines of each panel by legend, after so many seconds of traffic."""
    with tempfile.TemporaryDirectory(prefix="paceline-") as name:
        async with (
            served(Path(name)) as second_target,
            prometheus(PROMETHEUS_PORT, METRICS, scrape="1s") as found,
        ):
            began = time.time()
            async with traffic():
                await asyncio.sleep(seconds / 2)
                await second_target.aclose()
                await asyncio.sleep(seconds / 2)
                ended = time.time()
                return {one.title: await lines(found, one, began, ended) for one in PANELS}


async def lines(found: Prometheus, panel: Panel, began: float, ended: float) -> Series:
    """What a panel shows, by legend."""
    series: Series = {}
    for legend, query in panel.queries.items():
        for labels, values in await found.over_time(filled(query, INTERVAL), began, ended, STEP):
            if values:
                series[_named(legend, labels)] = values
    return series


def _named(legend: str, labels: dict[str, str]) -> str:
    """As Grafana does it; an instance is known by its job here."""
    known = {**labels, "instance": labels.get("job", "")}
    return _LABEL.sub(lambda found: known.get(found[1], ""), legend).strip() or "none"


def draw(panels: dict[str, Series], path: Path) -> None:
    """Write a PNG."""
    rows = -(-len(PANELS) // COLUMNS)
    figure, grid = plt.subplots(rows, COLUMNS, figsize=(15, 2.6 * rows), squeeze=False)
    places = [axes for row in grid for axes in row]
    for axes, panel in zip(places, PANELS, strict=False):
        _draw(axes, panel, panels[panel.title])
    for axes in places[len(PANELS) :]:
        axes.set_axis_off()
    figure.tight_layout()
    figure.savefig(path, dpi=80)
    plt.close(figure)


def _draw(axes: Axes, panel: Panel, series: Series) -> None:
    began = min((values[0][0] for values in series.values()), default=0.0)
    scale, unit = UNITS.get(panel.unit, (1.0, panel.unit))
    for legend, values in series.items():
        times = [at - began for at, _ in values]
        axes.plot(times, [value * scale for _, value in values], linewidth=1.2, label=legend)
    axes.set_title(f"{panel.title} [{unit}]" if unit else panel.title, fontsize=10)
    axes.set_ylim(bottom=0)
    axes.tick_params(labelsize=7)
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="y", alpha=0.3)
    if len(series) <= MANY:
        wide = any(len(legend) > LONG for legend in series)
        axes.legend(fontsize=6, ncols=1 if wide else 2, frameon=False)


def main() -> None:
    """Run it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=120.0, help="of traffic")
    options = parser.parse_args()
    draw(asyncio.run(collect(options.seconds)), PICTURE)
    Console().print(f"wrote {PICTURE}")


if __name__ == "__main__":
    main()
