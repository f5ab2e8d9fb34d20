"""Outputs of all kinds at once against the target alone, in virtual time.

python -m benchmarks.mixed_traffic: so many clients ask for one output behind the other. Of each the
length is drawn, and how often the draft is right: from 0.1 to 0.9. The table has the tokens per
second of all, and the speed of the slowest tenth and of the slowest of the outputs, over what the
target alone comes to with the same outputs.
"""

import argparse
import asyncio
import random
from dataclasses import replace

from rich.console import Console
from rich.progress import track
from rich.table import Table

from benchmarks.crowds import of_rate
from orchestrator.speculation.estimates.counts import PoolCounts
from orchestrator.speculation.estimates.measurements import DraftMeasurements
from orchestrator.speculation.pacing.pool_pacer import PoolPacer
from paceline_tools.evaluation.prediction import MakePacer, adaptive, fixed
from paceline_tools.simulation.clock import in_virtual_time
from paceline_tools.simulation.draft import SimulatedDraft
from paceline_tools.simulation.run import SimulatedServers, run_stream
from paceline_tools.simulation.target import SimulatedTarget
from paceline_tools.simulation.world import World

CLIENTS = (2, 8, 32)
OUTPUTS = 12
MEAN_TOKENS, LEAST_TOKENS, MOST_TOKENS = 120, 20, 400
RATES = (0.1, 0.9)
NEAR = World(0.025, 0.0025, 0.0005, lambda _: 0.0, token_seconds=0.0005, seed=1)
WORLDS = {
    "near": NEAR,
    "near, cheap rows": replace(
        NEAR, round_trip_seconds=0.002, token_seconds=0.00005, draft_token_seconds=0.00005
    ),
    "10 ms away": replace(NEAR, round_trip_seconds=0.01, token_seconds=0.0002),
}
"""Steps of 25 ms, draft tokens of 2.5."""


async def _serve(world: World, clients: int, make_pacer: MakePacer) -> tuple[float, list[float]]:
    """Seconds of all, and of each output."""
    measurements = DraftMeasurements()
    servers = SimulatedServers(SimulatedTarget(world), SimulatedDraft(world))

    async def client(number: int) -> list[float]:
        drawn, seconds = random.Random(number), []  # noqa: S311
        for output in range(OUTPUTS):
            tokens = int(drawn.expovariate(1.0 / MEAN_TOKENS))
            tokens = min(MOST_TOKENS, max(LEAST_TOKENS, tokens))
            own = of_rate(world.of_stream(number * 100 + output), drawn.uniform(*RATES))
            pacer = PoolPacer(make_pacer, measurements, PoolCounts())
            outcome = await run_stream(own, servers, pacer, measurements, tokens)
            pacer.end()
            seconds.append(outcome.seconds)
        return seconds

    started = asyncio.get_running_loop().time()
    found = await asyncio.gather(*(client(number) for number in range(clients)))
    return asyncio.get_running_loop().time() - started, [one for each in found for one in each]


def compared(world: World, clients: int) -> tuple[float, float, float]:
    """Of all, of the slowest tenth, of the slowest: speed over the target alone."""
    alone, paced = (in_virtual_time(_serve(world, clients, make)) for make in (fixed(0), adaptive))
    each = sorted(before / after for before, after in zip(alone[1], paced[1], strict=True))
    return alone[0] / paced[0], each[len(each) // 10], each[0]


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--clients", type=int, nargs="+", default=CLIENTS)
    options = parser.parse_args()
    table = Table(title="Speed over the target alone: of all, slowest tenth, slowest")
    table.add_column("draft")
    for clients in options.clients:
        table.add_column(f"{clients} clients", justify="right")
    cells = [(name, clients) for name in WORLDS for clients in options.clients]
    found = {
        (name, clients): compared(WORLDS[name], clients)
        for name, clients in track(cells, console=Console(stderr=True))
    }
    for name in WORLDS:
        figures = [found[name, clients] for clients in options.clients]
        table.add_row(name, *(" ".join(f"{one:.2f}" for one in each) for each in figures))
    Console().print(table)


if __name__ == "__main__":
    main()
