"""Streams that share the target's steps against the target alone, in virtual time.

python -m benchmarks.crowds: for each acceptance rate and number of streams that begin at once and
know nothing, the speed over that of the target alone: of all, and of the slowest stream in the
worst of so many seeds. In the last row the draft is right in 20 % for one stream, in 80 % for the
others.
"""

import argparse
import statistics
from collections.abc import Sequence
from dataclasses import replace

from rich.console import Console
from rich.progress import track
from rich.table import Table

from orchestrator.speculation.estimates.measurements import DraftMeasurements
from paceline_tools.evaluation.prediction import MakePacer, adaptive, fixed
from paceline_tools.simulation.run import simulate_mixed
from paceline_tools.simulation.world import World

GOOD, BAD = 0.8, 0.2
STREAMS = (2, 4, 8, 16)
ROWS: dict[str, tuple[float, float]] = {
    **{f"{rate:g}": (rate, rate) for rate in (0.2, 0.3, 0.4, 0.5, 0.6, 0.8)},
    "one bad": (BAD, GOOD),
}
"""Acceptance rates of the first stream, and of the others."""


def of_rate(world: World, rate: float) -> World:
    """The same with such an acceptance rate."""
    return replace(world, acceptance=lambda _: rate)


def seconds(worlds: Sequence[World], tokens: int, make_pacer: MakePacer) -> list[float]:
    """What each stream takes in virtual time."""
    measurements = DraftMeasurements()
    pacers = [make_pacer(measurements) for _ in worlds]
    outcomes = simulate_mixed(worlds, pacers, measurements, tokens)
    return [outcome.seconds for outcome in outcomes]


def speedups(
    world: World, streams: int, rates: tuple[float, float], tokens: int, seeds: int
) -> list[float]:
    """Of each stream, with each seed."""
    found: list[float] = []
    for seed in range(100, 100 + seeds):
        seeded = replace(world, seed=seed)
        worlds = [of_rate(seeded.of_stream(one), rates[one > 0]) for one in range(streams)]
        alone = max(seconds(worlds, tokens, fixed(0)))
        found += [alone / one for one in seconds(worlds, tokens, adaptive)]
    return found


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tokens", type=int, default=500, help="of each output")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--step-ms", type=float, default=25.0, help="of the target, with one row")
    parser.add_argument("--token-ms", type=float, default=0.5, help="each further row of a step")
    parser.add_argument("--draft-ms", type=float, default=2.5, help="a draft token")
    parser.add_argument("--round-trip-ms", type=float, default=0.5, help="to the draft")
    options = parser.parse_args()
    world = World(
        options.step_ms / 1e3,
        options.draft_ms / 1e3,
        options.round_trip_ms / 1e3,
        lambda _: 0.0,
        token_seconds=options.token_ms / 1e3,
    )
    table = Table(title="Speed over the target alone: of all streams, and of the slowest")
    table.add_column("right")
    for streams in STREAMS:
        table.add_column(f"{streams} streams", justify="right")
    for name in track(ROWS, console=Console(stderr=True)):
        found = [
            speedups(world, streams, ROWS[name], options.tokens, options.seeds)
            for streams in STREAMS
        ]
        table.add_row(name, *(f"{statistics.fmean(one):.2f}  {min(one):.2f}" for one in found))
    Console().print(table)


if __name__ == "__main__":
    main()
