"""What branches in a verification bring, in virtual time.

python -m benchmarks.branches: one stream by the pacer, with branches and without; where rows of a
step are free, and where they cost what they do on a CPU. Speed is over the target alone.
"""

import argparse
from dataclasses import replace
from statistics import median

from rich.console import Console
from rich.progress import track
from rich.table import Table

from paceline_tools.simulation.run import Outcome, simulate_policy
from paceline_tools.simulation.world import World

WORLDS = {
    "apart": (0.025, 0.0025, 0.0005, 0.0, False),
    "20 ms apart": (0.025, 0.0025, 0.02, 0.0, False),
    "shared cores": (0.092, 0.011, 0.0005, 0.0, True),
    "shared, 2 ms/row": (0.092, 0.011, 0.0005, 0.002, True),
    "shared, 9 ms/row": (0.092, 0.011, 0.0005, 0.009, True),
}
"""Seconds of a step, of a draft token, to the draft, of a row; whether cores are shared."""
CHANCES = ((0.6, 0.47), (0.75, 0.47), (0.75, 0.76), (0.85, 0.47))
"""That a draft token is right, and that the second-best token is where it is not."""
Outcomes = list[tuple[Outcome, Outcome]]


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tokens", type=int, default=1000)
    parser.add_argument("--seeds", type=int, default=5)
    options = parser.parse_args()
    table = Table(title="Without branches, with, range of the ratio", box=None)
    for heading in ("world", "right", "tokens a round", "speed"):
        table.add_column(heading, no_wrap=True)
    cases = [(name, *chances) for name in WORLDS for chances in CHANCES]
    for name, right, second in track(cases, console=Console(stderr=True)):
        seeds = range(1, options.seeds + 1)
        found = [_both(name, right, second, seed, options.tokens) for seed in seeds]
        table.add_row(name, f"{right}, {second}", *_cells(found, WORLDS[name][0]))
    Console().print(table)


def _both(
    name: str, right: float, second: float, seed: int, tokens: int
) -> tuple[Outcome, Outcome]:
    step, draft, round_trip, row, shares = WORLDS[name]
    world = World(
        step,
        draft,
        round_trip,
        lambda _: right,
        token_seconds=row,
        second_acceptance=second,
        shares_cores=shares,
        seed=seed,
    )
    without = simulate_policy(world, None, tokens)
    return without, simulate_policy(replace(world, branches=True), None, tokens)


def _cells(found: Outcomes, step_seconds: float) -> tuple[str, ...]:
    """Tokens and speeds of both, and the ratio of each."""
    decided = [tuple(one.tokens / len(one.lengths) for one in pair) for pair in found]
    speeds = [tuple(one.tokens_per_second * step_seconds for one in pair) for pair in found]
    return _pair(decided), _pair(speeds)


def _pair(values: list[tuple[float, ...]]) -> str:
    before, after = (median(column) for column in zip(*values, strict=True))
    ratios = sorted(second / first for first, second in values)
    return f"{before:.2f} {after:.2f} ({ratios[0]:.2f}-{ratios[-1]:.2f})"


if __name__ == "__main__":
    main()
