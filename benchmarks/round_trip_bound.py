"""What a draft far away could keep of the speed-up it has at hand: a bound, by a small calculation.

python -m benchmarks.round_trip_bound: a draft that drafts all its branches in the same steps, at
no cost, and a target that waits by the best of a few rules, chosen in hindsight. Neither knows more
of a draft token than how often one is right. By how many misses branches cover, and by how many of
them behind one another the draft foresees.
"""

import argparse
import random
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from itertools import product

from rich.console import Console
from rich.table import Table

from orchestrator.round_settings import MAX_DRAFT_LENGTH

AHEAD = 32
"""Positions that the draft runs ahead of the committed tokens."""
COVERED = {"second best": 0.47, "second and third best": 0.47 + 0.53 * 0.27}
"""Share of the misses, as measured by benchmarks.second_best."""
DEPTHS = (1, 2, AHEAD)
RULES = list(product((0, 2, 3), (0, 2, 3, 4), (0, 1)))


@dataclass(frozen=True, slots=True)
class Setting:
    """Times in milliseconds. depth: misses behind one another that branches foresee."""

    acceptance: float
    covered: float
    depth: int
    round_trip: float
    step: float = 25.0
    draft: float = 2.5
    target_round_trip: float = 0.5


@dataclass
class Stream:
    """An output as it grows. made: when the draft has made the token of each position.

    kinds: of positions: "right", "covered" or "uncovered". before: the latest round.
    """

    setting: Setting
    random: random.Random
    now: float = 0.0
    position: int = 0
    before: str = "all right"
    made: list[float] = field(default_factory=list)
    kinds: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        """Draft from the beginning."""
        self.made.append(self.setting.draft)
        self.draft()

    def kind(self, position: int) -> str:
        """What the draft token there is, drawn once."""
        while len(self.kinds) <= position:
            right = self.random.random() < self.setting.acceptance
            covered = self.random.random() < self.setting.covered
            self.kinds.append("right" if right else "covered" if covered else "uncovered")
        return self.kinds[position]

    def draft(self) -> None:
        """Go on as far as branches foresee it; where they stopped, since the verdict is heard."""
        setting, begun = self.setting, len(self.made)
        while len(self.made) < self.position + AHEAD and self._foreseen():
            earliest = self.made[-1]
            if len(self.made) == begun:  # it had stopped there, and is half a step late
                earliest = max(earliest, self.now + (setting.round_trip + setting.draft) / 2)
            self.made.append(earliest + setting.draft)

    def _foreseen(self) -> bool:
        last = len(self.made) - 1
        if last < self.position:
            return True
        misses = sum(self.kind(one) != "right" for one in range(self.position, last + 1))
        return self.kind(last) == "right" or (
            self.kind(last) == "covered" and misses <= self.setting.depth
        )

    def arrival(self, position: int) -> float:
        """When the target has a draft token there, which may lie behind a wrong one."""
        made = self.made[min(position, len(self.made) - 1)]
        behind = max(0, position - len(self.made) + 1)
        return made + behind * self.setting.draft + self.setting.round_trip / 2

    def round(self, wait_for: int) -> None:
        """Wait for so many draft tokens; verify those that are there."""
        if wait_for:
            self.now = max(self.now, self.arrival(self.position + wait_for - 1))
        ready = (self.arrival(self.position + one) <= self.now for one in range(MAX_DRAFT_LENGTH))
        length = next((one for one, is_here in enumerate(ready) if not is_here), MAX_DRAFT_LENGTH)
        accepted = 0
        while accepted < length and self.kind(self.position + accepted) == "right":
            accepted += 1
        self.now += self.setting.step + self.setting.target_round_trip
        self.before = self._came_to(self.position + accepted, length, accepted)
        self.position += accepted + 1
        self.draft()

    def _came_to(self, decided: int, length: int, accepted: int) -> str:
        """What is known of the round by now: of a miss also where its draft token came too late."""
        if accepted < length:
            return self.kind(decided)
        if self.kind(decided) == "uncovered" and self.arrival(decided) <= self.now:
            return "uncovered"
        return "all right" if length else "ordinary step"


def speedup(setting: Setting, rule: tuple[int, int, int], tokens: int, seed: int) -> float:
    """Over the target alone.

    rule: draft tokens waited for behind an uncovered miss, an ordinary step, and else.
    """
    stream = Stream(setting, random.Random(seed))  # noqa: S311
    behind_miss, behind_step, otherwise = rule
    while stream.position < tokens:
        waits = {"uncovered": behind_miss, "ordinary step": behind_step}
        stream.round(waits.get(stream.before, otherwise))
    return stream.position * setting.step / stream.now


def best(setting: Setting, tokens: int) -> float:
    """By the rule that is best in hindsight."""
    rule = max(RULES, key=lambda one: speedup(setting, one, tokens // 5, seed=1))
    return speedup(setting, rule, tokens, seed=2)


def rows(acceptance: float, options: argparse.Namespace) -> Iterator[tuple[str, ...]]:
    """For one acceptance rate."""
    for (name, covered), depth in product(COVERED.items(), DEPTHS):
        near = Setting(
            acceptance, covered, depth, 0.5, step=options.step_ms, draft=options.draft_ms
        )
        at_hand = best(near, options.tokens)
        away = best(replace(near, round_trip=options.round_trip_ms), options.tokens)
        kept = f"{away / at_hand:.3f}"
        foreseen = str(depth) if depth < AHEAD else "all"
        yield f"{acceptance:g}", name, foreseen, f"{at_hand:.2f}", f"{away:.2f}", kept


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--round-trip-ms", type=float, default=20.0)
    parser.add_argument("--step-ms", type=float, default=25.0)
    parser.add_argument("--draft-ms", type=float, default=2.5)
    parser.add_argument("--tokens", type=int, default=20000)
    options = parser.parse_args()
    table = Table(title="Bounds of the speed-up over the target alone")
    for heading in ("right", "branches cover the", "misses foreseen", "at hand", "away", "kept"):
        table.add_column(heading)
    for acceptance in (0.6, 0.85):
        for row in rows(acceptance, options):
            table.add_row(*row)
    Console().print(table)


if __name__ == "__main__":
    main()
