"""How many replicas KEDA would want of each role under a load, and whether they flap.

python -m benchmarks.scaling --record: two simulated targets with little KV, a draft and an
orchestrator under clients that come and go for four minutes; a real Prometheus answers the
ScaledObjects' own queries. Writes benchmarks/recordings/scaling.json. Without --record that is
replayed, a second as ten, and drawn into docs/scaling.png.

The servers of the recording are as many throughout: what is wanted does not change the load.
"""

import argparse
import asyncio
import contextlib
import itertools
import json
import math
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import matplotlib as mpl
import yaml
from rich.console import Console

from benchmarks.prometheus import Prometheus, prometheus
from paceline.client import Client
from paceline.errors import PacelineError
from paceline.protocol.generation import GenerateRequest
from paceline.protocol.sampling import SamplingParams
from paceline_tools.local_servers import answers, running
from paceline_tools.scaling import SYNC_SECONDS, State, autoscaler, step
from paceline_tools.server_commands import (
    THROWN_AWAY,
    draft_command,
    orchestrator_of,
    target_command,
)

mpl.use("Agg")

from matplotlib import pyplot as plt
from matplotlib.axes import Axes

ROOT = Path(__file__).parents[1]
OBJECTS = ROOT / "deploy" / "kustomize" / "components" / "keda"
RECORDING = Path(__file__).parent / "recordings" / "scaling.json"
PICTURE = ROOT / "docs" / "scaling.png"
PORT, PROMETHEUS_PORT = 7940, 7941
METRICS = {name: 7942 + index for index, name in enumerate(("orchestrator", "t1", "t2", "draft"))}
CONTAINERS = {"orchestrator": "orchestrator", "t1": "target", "t2": "target", "draft": "draft"}
TARGET = "simulated:step_ms=100,token_ms=0.5"
DRAFT = "simulated:step_ms=10,acceptance=0.8"
KV = ("--kv-tokens=12288", "--kv-reserve-tokens=0")
LOAD = (
    *((10, 0), (30, 16), (30, 40), (20, 90), (10, 36), (10, 60), (10, 36), (10, 60)),
    *((20, 12), (10, 4), (60, 0)),
)
"""Seconds, and clients that ask meanwhile."""
FASTER = 10
"""Seconds of the replay to one of the recording."""
LATENCY = (
    "histogram_quantile(0.95, sum by (le) (rate(paceline_time_to_first_token_seconds_bucket[10s])))"
)
LEGENDS = {"orchestrator streams": "running", "target waiting": "of these, waiting for KV"}
ROLES = ("orchestrator", "target", "draft")
Lines = dict[str, list[float | None]]
"""By name, a value a second; None where Prometheus had none, as after a scrape that failed."""


def scaled_objects() -> dict[str, dict[str, Any]]:
    """Those of the component keda, by role."""
    kubectl = Path(sys.executable).parent / "kubectl"
    with tempfile.TemporaryDirectory(prefix="paceline-") as name:
        folder = Path(name)
        shutil.copytree(OBJECTS, folder / "keda")
        (folder / "kustomization.yaml").write_text("components: [keda]\n")
        done = subprocess.run(  # noqa: S603 - our own
            [kubectl, "kustomize", folder], check=True, capture_output=True, text=True, timeout=60
        )
    objects = yaml.safe_load_all(done.stdout)
    return {one["metadata"]["name"].removeprefix("paceline-"): one for one in objects}


def queries() -> dict[str, str]:
    """Of all triggers, by role and name."""
    return {
        f"{role} {trigger['name']}": trigger["metadata"]["query"]
        for role, one in scaled_objects().items()
        for trigger in one["spec"]["triggers"]
    }


@contextlib.asynccontextmanager
async def served(folder: Path) -> AsyncIterator[None]:
    """All of them, ready."""
    targets = [f"unix:{folder / name}" for name in ("t1", "t2")]
    commands = {
        name: target_command(TARGET, folder / name, [*_flags(name), *KV]) for name in ("t1", "t2")
    } | {
        "draft": draft_command(DRAFT, "model", folder / "draft", _flags("draft")),
        "orchestrator": orchestrator_of(
            PORT, targets, [f"unix:{folder / 'draft'}"], _flags("orchestrator")
        ),
    }

    async def ready() -> None:
        await answers(PORT, drafts=1)

    async with running(commands, ready):
        yield


def _flags(server: str) -> list[str]:
    return [*THROWN_AWAY, f"--metrics-port={METRICS[server]}"]


async def traffic() -> None:
    """Clients that come and go as LOAD says, each asking one thing after the other."""
    async with Client(f"127.0.0.1:{PORT}") as client, asyncio.TaskGroup() as tasks:
        asking: list[asyncio.Task[None]] = []
        for seconds, clients in LOAD:
            while len(asking) > clients:
                asking.pop().cancel()
            while len(asking) < clients:
                asking.append(tasks.create_task(_ask(client, len(asking))))
            await asyncio.sleep(seconds)


async def _ask(client: Client, index: int) -> None:
    for number in itertools.count():
        request = GenerateRequest(
            f"Client {index}, question {number}. " * 4,
            sampling=SamplingParams(temperature=0),
            max_tokens=40 + 20 * (index % 5),
            ignore_eos=True,
            seed=1,
        )
        with contextlib.suppress(PacelineError):
            await client.generate(request).result()
        await asyncio.sleep(0.2)


async def record() -> Lines:
    """A value a second of each query, of the clients, and of the latency."""
    labels = {
        job: {"namespace": "paceline", "container": name, "pod": job}
        for job, name in CONTAINERS.items()
    }
    with tempfile.TemporaryDirectory(prefix="paceline-") as name:
        async with (
            served(Path(name)),
            prometheus(PROMETHEUS_PORT, METRICS, scrape="1s", labels=labels) as found,
        ):
            began = time.time()
            await traffic()
            return await _asked(found, began, time.time())


async def _asked(found: Prometheus, began: float, ended: float) -> Lines:
    lines: Lines = {}
    for name, query in {**queries(), "latency": LATENCY}.items():
        [(_, values)] = await found.over_time(query, began, ended, 1.0)
        known = {round(at - began): round(value, 3) for at, value in values}
        lines[name] = [known.get(at) for at in range(round(ended - began))]
    lines["clients"] = [float(clients) for seconds, clients in LOAD for _ in range(seconds)]
    return lines


def replay(lines: Lines) -> dict[str, list[int]]:
    """Replicas of each role at each look, from the fewest."""
    found: dict[str, list[int]] = {}
    for role, manifest in scaled_objects().items():
        scaler = autoscaler(manifest)
        names = [f"{role} {trigger['name']}" for trigger in manifest["spec"]["triggers"]]
        state, found[role] = State(scaler.fewest), []
        for look in range(looks(lines)):
            now = look * SYNC_SECONDS
            totals = [lines[name][int(now / FASTER)] for name in names]
            state = step(scaler, state, now, totals)
            found[role].append(state.replicas)
    return found


def looks(lines: Lines) -> int:
    """How often an autoscaler looks in a replay."""
    return int(min(len(one) for one in lines.values()) * FASTER / SYNC_SECONDS)


def turns(replicas: list[int]) -> int:
    """How often it turned from more to fewer, or back."""
    changes = [after - before for before, after in itertools.pairwise(replicas)]
    signs = [change > 0 for change in changes if change]
    return sum(one is not other for one, other in itertools.pairwise(signs))


def draw(lines: Lines, path: Path) -> None:
    """Load, replicas and latency over the minutes of the replay."""
    found = replay(lines)
    figure, axes = plt.subplots(3, 1, figsize=(9, 8), sharex=True)
    for name in ("orchestrator streams", "target waiting"):
        _line(axes[0], lines[name], label=LEGENDS[name])
    axes[0].set_ylabel("load [streams]")
    minutes = [look * SYNC_SECONDS / 60 for look in range(looks(lines))]
    for role in ROLES:
        axes[1].step(minutes, found[role], where="post", label=f"{role}s")
    axes[1].set_ylabel("replicas wanted")
    _line(axes[2], lines["latency"], label="95 % of streams are faster", color="tab:red")
    axes[2].set_ylabel("time to first token [s]")
    axes[2].set_xlabel("minutes")
    for one in axes:
        _finish(one)
    figure.tight_layout()
    figure.savefig(path, dpi=90)
    plt.close(figure)


def _line(axes: Axes, values: list[float | None], **look: Any) -> None:
    minutes = [at * FASTER / 60 for at in range(len(values))]
    axes.plot(minutes, [math.nan if one is None else one for one in values], **look)


def _finish(axes: Axes) -> None:
    axes.set_ylim(bottom=0)
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="y", alpha=0.3)
    axes.legend(fontsize=8, frameon=False)


def main() -> None:
    """Record if asked to, then replay and draw."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--record", action="store_true", help="measure anew, first")
    if parser.parse_args().record:
        RECORDING.write_text(json.dumps(asyncio.run(record())) + "\n")
    lines = json.loads(RECORDING.read_text())
    draw(lines, PICTURE)
    for role, replicas in replay(lines).items():
        said = " ".join(f"{one}" for one, _ in itertools.groupby(replicas))
        Console().print(f"{role}: {said}; {turns(replicas)} turns")


if __name__ == "__main__":
    main()
