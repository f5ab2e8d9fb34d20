"""What a draft far away keeps of the speed-up that it has at hand, in virtual time.

python -m benchmarks.round_trip: one stream by the pacer, by step, draft token and acceptance rate,
with branches that are verified in the same step and without. Medians over seeds, and the range of
what is kept. benchmarks.round_trip_bound has what can be kept.
"""

import argparse
from collections.abc import Iterator
from dataclasses import replace
from itertools import product
from statistics import median

from rich.console import Console
from rich.progress import track
from rich.table import Table

from paceline_tools.simulation.run import simulate_policy
from paceline_tools.simulation.world import World

AT_HAND = 0.0005
TIMES = ((25.0, 2.5), (25.0, 1.0), (40.0, 4.0))
"""Of a step and of a draft token, in milliseconds."""
RIGHT = (0.6, 0.85)
CASES = list(product(TIMES, RIGHT, (False, True)))


def world(step_ms: float, draft_ms: float, right: float, *, branches: bool) -> World:
    """The draft at hand, rows free."""
    return World(step_ms / 1e3, draft_ms / 1e3, AT_HAND, lambda _: right, branches=branches)


def speeds(near: World, away_seconds: float, tokens: int, seeds: int) -> list[tuple[float, float]]:
    """Over the target alone, at hand and away, by seed."""
    found = []
    for seed in range(1, seeds + 1):
        both = (replace(near, seed=seed, round_trip_seconds=one) for one in (AT_HAND, away_seconds))
        outcomes = [simulate_policy(one, None, tokens) for one in both]
        at_hand, away = (one.tokens_per_second * near.step_seconds for one in outcomes)
        found.append((at_hand, away))
    return found


def cells(found: list[tuple[float, float]]) -> Iterator[str]:
    """Medians, and what is kept with its range."""
    at_hand, away = (median(column) for column in zip(*found, strict=True))
    kept = sorted(one[1] / one[0] for one in found)
    yield from (f"{at_hand:.2f}", f"{away:.2f}")
    yield f"{away / at_hand:.2f} ({kept[0]:.2f}-{kept[-1]:.2f})"


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--round-trip-ms", type=float, default=20.5)
    parser.add_argument("--tokens", type=int, default=1500)
    parser.add_argument("--seeds", type=int, default=6)
    options = parser.parse_args()
    table = Table(title=f"A draft {options.round_trip_ms:g} ms away", box=None)
    for heading in ("step / draft, ms", "right", "branches", "at hand", "away", "kept"):
        table.add_column(heading, no_wrap=True)
    for (step, draft), right, branches in track(CASES, console=Console(stderr=True)):
        near = world(step, draft, right, branches=branches)
        found = speeds(near, options.round_trip_ms / 1e3, options.tokens, options.seeds)
        said = "verified" if branches else "drafted"
        table.add_row(f"{step:g} / {draft:g}", f"{right:g}", said, *cells(found))
    Console().print(table)


if __name__ == "__main__":
    main()
