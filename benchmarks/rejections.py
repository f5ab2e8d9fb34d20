"""Where the time goes behind a rejection: with a draft at hand, and with one far away.

python -m benchmarks.rejections: in virtual time, by what the step before came to and how the
next one began, their share of the time, how long one took and what it brought.
"""

import argparse
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass

from rich.console import Console
from rich.table import Table

from paceline_tools.simulation.run import Outcome, simulate_policy
from paceline_tools.simulation.world import World

AT_ONCE_SECONDS = 0.002
"""A step that begins within this had not to wait for draft tokens."""


@dataclass(frozen=True)
class Step:
    """One step. seconds: from the verdict before it to its own. tokens: that it brought."""

    before: str
    begun: str
    seconds: float
    tokens: int


def steps(world: World, outcome: Outcome) -> Iterator[Step]:
    """All but the first and the last one."""
    rounds = list(zip(outcome.positions, outcome.lengths, outcome.arrivals, strict=True))
    for before, this, following in zip(rounds, rounds[1:], rounds[2:], strict=False):
        seconds = this[2] - before[2]
        waited = seconds - world.verify_seconds(this[1]) > AT_ONCE_SECONDS
        with_draft_tokens = "after a wait" if waited else "with draft tokens"
        yield Step(
            _came_to(before[1], this[0] - before[0]),
            with_draft_tokens if this[1] else "with none",
            seconds,
            following[0] - this[0],
        )


def _came_to(verified: int, tokens: int) -> str:
    if not verified:
        return "an ordinary decode step"
    return "all right" if tokens > verified else "a rejection"


def table(world: World, tokens: int) -> Table:
    """Of one world."""
    outcome = simulate_policy(world, None, tokens)
    kinds: dict[tuple[str, str], list[Step]] = defaultdict(list)
    for step in steps(world, outcome):
        kinds[step.before, step.begun].append(step)
    speedup = outcome.tokens_per_second * world.step_seconds
    title = f"draft {world.round_trip_seconds * 1e3:g} ms away: {speedup:.2f} times the target"
    found = Table(title=title)
    for name in ("after", "the next began", "share of time", "ms each", "tokens each"):
        found.add_column(name, justify="left" if name in {"after", "the next began"} else "right")
    for (before, begun), some in sorted(kinds.items(), key=lambda kind: -_seconds(kind[1])):
        share, each = _seconds(some) / outcome.seconds, _seconds(some) / len(some) * 1e3
        brought = sum(step.tokens for step in some) / len(some)
        found.add_row(before, begun, f"{share:.0%}", f"{each:.1f}", f"{brought:.1f}")
    return found


def _seconds(some: list[Step]) -> float:
    return sum(step.seconds for step in some)


def main() -> None:
    """Parse the command line and run."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--round-trips-ms", type=float, nargs="+", default=[0.5, 20.5])
    parser.add_argument("--acceptance", type=float, default=0.85)
    parser.add_argument("--step-ms", type=float, default=25.0)
    parser.add_argument("--draft-ms", type=float, default=2.5)
    parser.add_argument("--tokens", type=int, default=1500)
    options = parser.parse_args()
    for round_trip in options.round_trips_ms:
        world = World(
            options.step_ms / 1e3,
            options.draft_ms / 1e3,
            round_trip / 1e3,
            lambda _: options.acceptance,
        )
        Console().print(table(world, options.tokens))


if __name__ == "__main__":
    main()
