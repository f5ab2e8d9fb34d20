"""The pacer against what is possible: in virtual time, and through three real processes.

python -m benchmarks.worlds: for each world the speed-up over the target alone in virtual time,
of the pacer and of the best fixed draft length; and measured between real servers around
simulated models, with the share of the former that it comes to.
"""

import argparse
import asyncio

from rich.console import Console
from rich.progress import track
from rich.table import Table

from benchmarks.simulated import deployed
from paceline.protocol.generation import Speculation
from paceline_tools.simulation.run import FIXED_LENGTHS, simulate_policy
from paceline_tools.simulation.world import World

WORLDS = [(25, 2.5, 0.5), (25, 2.5, 20), (25, 2.5, 50), (25, 8, 20), (77, 20, 20)]
"""Milliseconds of a target step, a draft token, a round trip to the draft."""
ACCEPTANCE = (0.6, 0.85)
WIRE_MS = 0.5
"""A round trip between processes of this machine, about: what a delay is added to."""


def in_virtual_time(world: tuple[float, float, float], acceptance: float) -> tuple[float, float]:
    """Of the pacer, and of the best fixed length; means of three seeds."""

    def speedup(length: int | None) -> float:
        total = 0.0
        for seed in (1, 2, 3):
            step, draft, round_trip = (milliseconds / 1e3 for milliseconds in world)
            one = World(
                step,
                draft,
                round_trip,
                lambda _: acceptance,
                target_round_trip_seconds=0.0,
                seed=seed,
            )
            total += simulate_policy(one, length, 1500).tokens_per_second * step
        return total / 3

    return speedup(None), max(1.0, *(speedup(length) for length in FIXED_LENGTHS))


async def between_processes(
    world: tuple[float, float, float], acceptance: float, tokens: int
) -> float:
    """Measured: off, auto, auto, off, after a stream to warm up."""
    step, draft, round_trip = world
    delay = max(0.0, round_trip - WIRE_MS) / 1e3
    names = f"simulated:step_ms={step}", f"simulated:step_ms={draft},acceptance={acceptance}"
    async with deployed(*names, delay) as servers:
        await servers.generate("warm", 100, Speculation.AUTO)
        speeds = {Speculation.OFF: 0.0, Speculation.AUTO: 0.0}
        for mode in (Speculation.OFF, Speculation.AUTO, Speculation.AUTO, Speculation.OFF):
            length = tokens if mode is Speculation.AUTO else tokens // 4
            result = await servers.generate("hello", length, mode)
            speeds[mode] += result.choices[0].finished.tokens_per_second
    return speeds[Speculation.AUTO] / speeds[Speculation.OFF]


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tokens", type=int, default=1000, help="of each measured output")
    parser.add_argument("--trips", type=float, nargs="+", help="only worlds of these round trips")
    options = parser.parse_args()
    table = Table(title="Speed-up over the target alone")
    for heading in (
        "step",
        "draft",
        "round trip ms",
        "right",
        "pacer",
        "fixed",
        "processes",
        "share",
    ):
        table.add_column(heading, justify="right")
    worlds = [world for world in WORLDS if not options.trips or world[2] in options.trips]
    points = [(world, acceptance) for world in worlds for acceptance in ACCEPTANCE]
    for world, acceptance in track(points, console=Console(stderr=True)):
        virtual, fixed = in_virtual_time(world, acceptance)
        measured = asyncio.run(between_processes(world, acceptance, options.tokens))
        table.add_row(
            *(f"{milliseconds:g}" for milliseconds in world),
            f"{acceptance:g}",
            f"{virtual:.2f}",
            f"{fixed:.2f}",
            f"{measured:.2f}",
            f"{measured / virtual:.2f}",
        )
    Console().print(table)


if __name__ == "__main__":
    main()
