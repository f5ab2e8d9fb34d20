"""Many streams between simulated servers: what speculation brings, and what it costs.

python -m benchmarks.load: for 1 to 64 streams at once, in turn, tokens per second with
speculation off, always and as the pacer decides, and the orchestrator's CPU time per verdict. Each
run is printed as it ends; --modes says which there are, in their order. With --orchestrators N so
many share the port, and each has as many of the streams; CPU is that of all.
"""

import argparse
import asyncio
import statistics
import time
from dataclasses import dataclass

from rich.console import Console
from rich.progress import track
from rich.table import Table

from benchmarks.simulated import PORT, Deployment, deployed, rounds_and_steps
from benchmarks.spread import counts
from paceline.errors import Unavailable
from paceline.protocol.generation import Speculation

MODES = ("off", "force", "auto", "auto", "force", "off")
TARGET = "simulated:step_ms=25,token_ms=0.05"
DRAFT = "simulated:step_ms=2.5,acceptance={acceptance}"


@dataclass(frozen=True)
class Measured:
    """One load. cpu_us: of the orchestrator, per verdict. overhead_ms: median over streams."""

    tokens_per_second: float
    cpu_us: float
    tokens_per_verdict: float
    overhead_ms: float


async def measure(
    servers: Deployment, streams: int, tokens: int, speculation: Speculation
) -> Measured:
    """So many outputs at once."""
    cpu, started = servers.cpu_seconds, time.perf_counter()
    results = await asyncio.gather(
        *(servers.generate(str(index), tokens, speculation) for index in range(streams))
    )
    seconds, cpu = time.perf_counter() - started, servers.cpu_seconds - cpu
    verdicts = rounds_and_steps(results)
    overheads = [result.choices[0].finished.statistics.overhead_seconds for result in results]
    return Measured(
        streams * tokens / seconds,
        cpu / verdicts * 1e6,
        streams * tokens / verdicts,
        statistics.median(overheads) * 1e3,
    )


def check_spread(servers: Deployment, port: int) -> None:
    """Raise Unavailable where a connection has moved to a process that has another one."""
    if set(found := counts(port, list(servers.clients))) != {1}:
        raise Unavailable(f"orchestrators have {found} connections; each is to have one")


Found = dict[str, list[Measured]]
"""The runs of each mode."""


def best_share(speeds: dict[str, float]) -> str:
    """What the pacer comes to, of the better of the others that were run."""
    others = [speed for mode, speed in speeds.items() if mode != "auto"]
    return f"{speeds['auto'] / max(others):.2f}" if others and "auto" in speeds else "-"


def summary(found: Found) -> list[str]:
    """Means of a load's modes; CPU, tokens of a verdict and overhead of the last run."""
    speeds = {
        mode: statistics.fmean(one.tokens_per_second for one in ones)
        for mode, ones in found.items()
    }
    last = (found.get("auto") or list(found.values())[-1])[-1]
    return [
        *(f"{speeds[mode]:.0f}" if mode in speeds else "-" for mode in ("off", "force", "auto")),
        best_share(speeds),
        f"{last.cpu_us:.0f}",
        f"{last.tokens_per_verdict:.2f}",
        f"{last.overhead_ms:.2f}",
    ]


async def run(options: argparse.Namespace) -> Table:
    """All loads, each in all modes."""
    console = Console(stderr=True)
    several = options.orchestrators
    title = f"{TARGET}, acceptance {options.acceptance}, orchestrators {several}"
    table = Table(title=title)
    for heading in (
        "streams",
        "off t/s",
        "force",
        "auto",
        "auto/best",
        "CPU us",
        "t/verdict",
        "ms",
    ):
        table.add_column(heading, justify="right")
    draft = DRAFT.format(acceptance=options.acceptance)
    async with deployed(TARGET, draft, port=options.port, orchestrators=several) as servers:
        await servers.generate("warm", 200, Speculation.AUTO)
        for streams in track(options.streams, console=console):
            found: Found = {}
            for mode in options.modes:
                one = await measure(servers, streams, options.tokens, Speculation(mode))
                found.setdefault(mode, []).append(one)
                console.print(
                    f"{streams} streams, {mode}: {one.tokens_per_second:.0f} tokens/s, "
                    f"{one.cpu_us:.0f} us a verdict, {one.tokens_per_verdict:.2f} tokens a verdict"
                )
                check_spread(servers, options.port)
            table.add_row(str(streams), *summary(found))
    return table


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--streams", type=int, nargs="+", default=[1, 2, 4, 8, 16, 32, 64])
    parser.add_argument("--modes", nargs="+", choices=sorted(set(MODES)), default=MODES)
    parser.add_argument("--tokens", type=int, default=300)
    parser.add_argument("--acceptance", type=float, default=0.85)
    parser.add_argument("--orchestrators", type=int, default=1)
    parser.add_argument("--port", type=int, default=PORT)
    Console().print(asyncio.run(run(parser.parse_args())))


if __name__ == "__main__":
    main()
