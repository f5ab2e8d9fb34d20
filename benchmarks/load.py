"""Many streams between simulated servers: what speculation brings, and what it costs.

python -m benchmarks.load: for 1 to 64 streams at once, in turn, tokens per second with
speculation off, always and as the pacer decides, and the orchestrator's CPU time per verdict. With
--orchestrators N so many share the port, and each has as many of the streams; CPU is that of all.
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


async def run(options: argparse.Namespace) -> Table:
    """All loads, off, force, auto, auto, force, off."""
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
    modes = (Speculation.OFF, Speculation.FORCE, Speculation.AUTO)
    draft = DRAFT.format(acceptance=options.acceptance)
    async with deployed(TARGET, draft, port=options.port, orchestrators=several) as servers:
        await servers.generate("warm", 200, Speculation.AUTO)
        for streams in track(options.streams, console=Console(stderr=True)):
            found: dict[Speculation, list[Measured]] = {mode: [] for mode in modes}
            for mode in (*modes, *reversed(modes)):
                found[mode].append(await measure(servers, streams, options.tokens, mode))
                check_spread(servers, options.port)
            speeds = {
                mode: statistics.fmean(one.tokens_per_second for one in ones)
                for mode, ones in found.items()
            }
            off, force, auto = (speeds[mode] for mode in modes)
            last = found[Speculation.AUTO][-1]
            table.add_row(
                str(streams),
                f"{off:.0f}",
                f"{force:.0f}",
                f"{auto:.0f}",
                f"{auto / max(off, force):.2f}",
                f"{last.cpu_us:.0f}",
                f"{last.tokens_per_verdict:.2f}",
                f"{last.overhead_ms:.2f}",
            )
    return table


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--streams", type=int, nargs="+", default=[1, 2, 4, 8, 16, 32, 64])
    parser.add_argument("--tokens", type=int, default=300)
    parser.add_argument("--acceptance", type=float, default=0.85)
    parser.add_argument("--orchestrators", type=int, default=1)
    parser.add_argument("--port", type=int, default=PORT)
    Console().print(asyncio.run(run(parser.parse_args())))


if __name__ == "__main__":
    main()
