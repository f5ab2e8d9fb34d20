"""python -m benchmarks.policies: how to draft, compared in virtual time.

The pacer, every fixed draft length drafting ahead, lock-step (the draft waits for the verdict, the
target for all its draft tokens) and the target alone: on simulated worlds, and on recordings of the
real pair. Prints tables; --plot and --json write the figures.

The optimum is found in hindsight: of fixed lengths and waiting rules, in each phase of a world the
best one.
"""

import argparse
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import track
from rich.table import Table

from orchestrator.speculation.estimates.measurements import DraftMeasurements
from orchestrator.speculation.pacing.pacer import Explanation, FixedPacer
from orchestrator.speculation.pacing.plan import DraftState, Plan, WaitForCount
from paceline.protocol.proposal import DraftToken
from paceline.protocol.verdict import TimedVerdict
from paceline_tools.evaluation.prediction import (
    Deployment,
    adaptive,
    fixed,
    replay,
    speedups,
    world_of,
)
from paceline_tools.evaluation.recording import RecordedOutput, Recording, load_recordings
from paceline_tools.simulation.run import FIXED_LENGTHS, FIXED_WAIT_SECONDS, Outcome, simulate
from paceline_tools.simulation.world import World

RECORDINGS = Path(__file__).parent / "recordings" / "qwen2.5-coder.json"
TOKENS = 1500
SEEDS = (1, 2)
DELAYS = (0, 10, 20, 50)
DEPLOYMENTS = {
    "shared cores": Deployment(shared=True),
    "apart, 0.5 ms": Deployment(shared=False, round_trip_seconds=0.0005),
    "apart, 20 ms": Deployment(shared=False, round_trip_seconds=0.02),
}


@dataclass(frozen=True, slots=True)
class Case:
    """A world to compare in. acceptance: by phase, each of phase_tokens, in turn."""

    name: str
    group: str
    step_ms: float
    draft_ms: float
    round_trip_ms: float
    acceptance: tuple[float, ...]
    phase_tokens: int = 250
    token_ms: float = 0.0
    shared: bool = False

    def world(self, seed: int) -> World:
        """The world, with one of its courses."""
        return World(
            self.step_ms / 1e3,
            self.draft_ms / 1e3,
            self.round_trip_ms / 1e3,
            lambda position: self.acceptance[self.phase(position)],
            token_seconds=self.token_ms / 1e3,
            target_round_trip_seconds=0.0,
            shares_cores=self.shared,
            seed=seed,
        )

    def phase(self, position: int) -> int:
        """Which phase a position is of."""
        return position // self.phase_tokens % len(self.acceptance)


@dataclass(frozen=True, slots=True)
class Compared:
    """Speed-ups over the target alone. fixed and lock_step: of the best length each."""

    name: str
    group: str
    auto: float
    fixed: float
    fixed_length: int
    lock_step: float
    optimum: float

    @property
    def share(self) -> float:
        """Of the optimum, that the pacer reaches."""
        return self.auto / self.optimum


DRIFT = (0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2)
TABLE = [(25, 2.5, 0.5), (25, 2.5, 20), (25, 2.5, 50), (25, 8, 20), (77, 20, 20)]
CASES = [
    *(
        Case(
            f"{step}/{draft:g}/{round_trip:g}",
            f"{a:g} of draft tokens right",
            step,
            draft,
            round_trip,
            (a,),
        )
        for a in (0.6, 0.85)
        for step, draft, round_trip in TABLE
    ),
    *(Case(f"{round_trip}", "delay", 25, 2.5, round_trip, (0.8,)) for round_trip in DELAYS),
    Case("drift", "changing", 25, 2.5, 0.5, DRIFT, 190),
    Case("drift, 20 ms", "changing", 25, 2.5, 20, DRIFT, 190),
    Case("two modes", "changing", 25, 2.5, 0.5, (0.92, 0.35), 250),
    Case("two modes, 20 ms", "changing", 25, 2.5, 20, (0.92, 0.35), 250),
    Case("shared, two modes", "changing", 110, 20, 0.5, (0.92, 0.35), 250, 2.0, shared=True),
    Case("draft as slow", "slow drafts", 25, 25, 0.5, (0.8,)),
    Case("half as slow", "slow drafts", 25, 12, 0.5, (0.8,)),
    Case("shared, 1/5", "slow drafts", 110, 20, 0.5, (0.7,), token_ms=2.0, shared=True),
    Case("shared, 1/2", "slow drafts", 110, 55, 0.5, (0.7,), token_ms=2.0, shared=True),
]


@dataclass(frozen=True, slots=True)
class RulePacer:
    """Wait for at_least draft tokens, verify at_most: one waiting rule in every round."""

    at_least: int
    at_most: int
    reason: None = field(default=None, init=False)
    others: int = field(default=0, init=False)
    rests: bool = field(default=False, init=False)

    @property
    def eager(self) -> bool:
        """See Pacer."""
        return True

    def explain(self) -> Explanation:
        """See Pacer."""
        return Explanation({}, {})

    def observe(self, timed: TimedVerdict, draft_tokens: tuple[DraftToken, ...]) -> None:
        """Nothing changes its mind."""

    def interrupted(self) -> None:
        """Nor does this."""

    def plan(self, remaining: int, draft: DraftState) -> Plan:
        """See Pacer."""
        most = max(0, min(self.at_most, remaining - 1))
        least = min(self.at_least, most)
        ahead = 0 if draft.shares_cores else self.at_most + 2
        return Plan(most, WaitForCount(least, FIXED_WAIT_SECONDS), lookahead=most + ahead)


RULES = [(least, most) for most in FIXED_LENGTHS for least in sorted({0, 1, most}) if least <= most]


def paced(world: World) -> Outcome:
    """By the pacer."""
    measurements = DraftMeasurements()
    return simulate(world, adaptive(measurements), measurements, TOKENS)


def with_length(world: World, length: int) -> Outcome:
    """By a fixed draft length."""
    pacer = FixedPacer(length, FIXED_WAIT_SECONDS)
    return simulate(world, pacer, DraftMeasurements(), TOKENS)


def compare(case: Case, seeds: Sequence[int] = SEEDS) -> Compared:
    """All policies in one world: means over its courses."""
    worlds = [case.world(seed) for seed in seeds]
    alone = sum(with_length(world, 0).seconds for world in worlds)
    ahead = {k: alone / _seconds(worlds, k) for k in FIXED_LENGTHS}
    in_turn = [replace(world, shares_cores=True) for world in worlds]
    lock_step = {k: alone / _seconds(in_turn, k) for k in FIXED_LENGTHS}
    best = max(ahead, key=lambda length: ahead[length])
    return Compared(
        case.name,
        case.group,
        auto=alone / sum(paced(world).seconds for world in worlds),
        fixed=ahead[best],
        fixed_length=best,
        lock_step=max(lock_step.values()),
        optimum=alone / sum(optimum_seconds(case, world) for world in worlds),
    )


def _seconds(worlds: Sequence[World], length: int) -> float:
    return sum(with_length(world, length).seconds for world in worlds)


def optimum_seconds(case: Case, world: World) -> float:
    """In each phase the time of the rule that is best there, in hindsight."""
    runs = [with_length(world, 0)]
    # On shared cores a draft that works on beside the target would slow it, which no world tells.
    rules = [(least, most) for least, most in RULES if least == most or not case.shared]
    runs += [
        simulate(world, RulePacer(least, most), DraftMeasurements(), TOKENS)
        for least, most in rules
    ]
    by_phase = [_by_phase(case, one) for one in runs]
    return sum(min(times[phase] for times in by_phase) for phase in range(len(case.acceptance)))


def _by_phase(case: Case, outcome: Outcome) -> list[float]:
    """Seconds spent in each phase."""
    seconds = [0.0] * len(case.acceptance)
    before = 0.0
    for position, arrived in zip(outcome.positions, outcome.arrivals, strict=True):
        seconds[case.phase(position)] += arrived - before
        before = arrived
    return seconds


def compare_recorded(recording: Recording, deployment: Deployment, name: str) -> list[Compared]:
    """All policies on a recording, by kind; the optimum is the best fixed length of each kind."""
    alone = replay(recording, deployment, fixed(0))
    ahead = {
        k: speedups(alone, replay(recording, deployment, fixed(k))) for k in (0, *FIXED_LENGTHS)
    }
    in_turn = replace(deployment, shared=True)
    lock_step = [speedups(alone, replay(recording, in_turn, fixed(k))) for k in FIXED_LENGTHS]
    auto = speedups(alone, replay(recording, deployment, adaptive, 2))
    found = []
    for kind in recording.kinds:
        highest, best = max((by_kind[kind], length) for length, by_kind in ahead.items())
        slowest = max(one[kind] for one in lock_step)
        found.append(Compared(kind, name, auto[kind], highest, best, slowest, highest))
    return found


def tables(found: Sequence[Compared]) -> list[Table]:
    """One for each group."""
    made = []
    for group in dict.fromkeys(one.group for one in found):
        table = Table(title=f"Speed-up over the target alone: {group}")
        for heading in ("", "auto", "best fixed", "lock-step", "optimum", "auto / optimum"):
            table.add_column(heading, justify="left" if not heading else "right")
        for one in (one for one in found if one.group == group):
            table.add_row(
                one.name,
                f"{one.auto:.2f}",
                f"{one.fixed:.2f} at {one.fixed_length}",
                f"{one.lock_step:.2f}",
                f"{one.optimum:.2f}",
                f"{one.share:.3f}",
            )
        made.append(table)
    return made


def draw(found: Sequence[Compared], path: Path) -> None:
    """Small multiples: a panel for each group, bars for policies, a mark for the optimum."""
    from matplotlib import pyplot as plt

    groups = list(dict.fromkeys(one.group for one in found))
    columns = 4
    figure, grid = plt.subplots(
        -(-len(groups) // columns), columns, figsize=(17, 3.3 * -(-len(groups) // columns))
    )
    for axes, group in zip(grid.flat, groups, strict=False):
        _panel(axes, group, [one for one in found if one.group == group])
    for axes in list(grid.flat)[len(groups) :]:
        axes.axis("off")
    handles, labels = grid.flat[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="lower right", ncols=2, fontsize=9)
    figure.tight_layout()
    figure.savefig(path, dpi=110)
    plt.close(figure)


def _panel(axes: Any, group: str, found: Sequence[Compared]) -> None:
    policies = ("auto", "fixed", "lock_step")
    labels = ("the pacer", "best fixed length, ahead", "best lock-step")
    for index, (policy, label) in enumerate(zip(policies, labels, strict=True)):
        positions = [at + (index - 1) * 0.27 for at in range(len(found))]
        axes.bar(positions, [getattr(one, policy) for one in found], 0.25, label=label)
    heights = [one.optimum for one in found]
    axes.scatter(range(len(found)), heights, marker="_", s=400, color="black", label="optimum")
    axes.axhline(1.0, color="0.3", linewidth=0.9, linestyle="--", label="the target alone")
    axes.set_title(group, fontsize=10)
    axes.set_xticks(range(len(found)), [one.name for one in found], fontsize=7, rotation=15)
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="y", alpha=0.3)


def draw_switch(recording: Recording, path: Path) -> None:
    """Code, then prose, then code again, in one stream: how the draft lengths follow."""
    from matplotlib import pyplot as plt

    outcome, right, bounds = switching(recording)
    figure, (top, axes) = plt.subplots(2, 1, figsize=(11, 5), sharex=True, height_ratios=(1, 2))
    first = min(outcome.positions)
    positions = [position - first for position in outcome.positions]
    top.plot(_smooth([float(one) for one in right], 32), color="tab:green")
    top.set_ylim(0, 1.03)
    top.set_ylabel("right, of the last 32 draft tokens", fontsize=8)
    axes.scatter(positions, outcome.lengths, s=9, alpha=0.45, label="draft tokens verified")
    axes.plot(positions, _smooth(outcome.lengths), linewidth=2, label="mean of 12 rounds")
    axes.set_xlabel("position in the output")
    axes.set_ylabel("draft length")
    axes.legend(fontsize=8, loc="upper center")
    for start, end, kind in bounds:
        color = "tab:blue" if kind == "code" else "tab:orange"
        for panel in (top, axes):
            panel.axvspan(start, end, color=color, alpha=0.07)
            panel.spines[["top", "right"]].set_visible(False)
        top.text((start + end) / 2, 0.08, kind, ha="center")
    figure.tight_layout()
    figure.savefig(path, dpi=110)
    plt.close(figure)


def switching(recording: Recording) -> tuple[Outcome, list[bool], list[tuple[int, int, str]]]:
    """One stream over the outputs of code, of prose, and of code again; where each begins."""
    outputs, bounds, end = [], [], 0
    for kind in ("code", "prose", "code"):
        start, some = end, recording.of(kind)
        end += sum(len(output.draft_tokens) for output in some)
        outputs += some
        bounds.append((start, end, kind))
    joined = RecordedOutput(
        kind="all",
        prompt_tokens=recording.outputs[0].prompt_tokens,
        draft_tokens="".join(output.draft_tokens for output in outputs),
        confidences=tuple(one for output in outputs for one in output.confidences),
    )
    world = world_of(recording, joined, Deployment(recording.shares_host))
    measurements = DraftMeasurements()
    outcome = simulate(world, adaptive(measurements), measurements, end)
    return outcome, list(joined.right), bounds


def _smooth(values: Sequence[float], count: int = 12) -> list[float]:
    return [
        sum(values[max(0, at - count + 1) : at + 1]) / min(at + 1, count)
        for at in range(len(values))
    ]


def main() -> None:
    """Compare, print and draw."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--recordings", type=Path, default=RECORDINGS)
    parser.add_argument("--only", choices=("worlds", "recordings"))
    parser.add_argument("--json", type=Path)
    parser.add_argument("--plot", type=Path)
    parser.add_argument("--switch-plot", type=Path)
    options = parser.parse_args()
    console = Console(stderr=True)
    cases = [] if options.only == "recordings" else CASES
    found = [compare(case) for case in track(cases, "worlds", console=console)]
    recordings = () if options.only == "worlds" else load_recordings(options.recordings)
    pairs = [(one, name) for one in recordings for name in DEPLOYMENTS]
    for one, name in track(pairs, "recordings", console=console):
        found += compare_recorded(one, DEPLOYMENTS[name], f"{one.candidate}, {name}")
    for table in tables(found):
        Console().print(table)
    if options.json:
        options.json.write_text(json.dumps([asdict(one) for one in found], indent=1))
    if options.plot:
        draw(found, options.plot)
    if options.switch_plot and recordings:
        draw_switch(recordings[0], options.switch_plot)


if __name__ == "__main__":
    main()
