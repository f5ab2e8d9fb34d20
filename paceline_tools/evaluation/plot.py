"""The evaluation as a picture: speed-ups, draft lengths, acceptance by draft position."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl

from paceline_tools.evaluation.results import Evaluated

mpl.use("Agg")

from matplotlib import pyplot as plt


def draw(found: Sequence[Evaluated], path: Path) -> None:
    """Write a PNG, or an SVG, as the path ends."""
    shown = [one for one in found if one.gathered.recording]
    figure, (left, middle, right) = plt.subplots(1, 3, figsize=(15, 4.6), width_ratios=(4, 3, 3))
    for index, one in enumerate(shown):
        color = f"C{index % 10}"
        _bars(left, one, index, len(shown), color)
        _lengths(middle, one, color)
        _places(right, one, color)
    left.set_ylabel("speed-up over the target alone")
    left.set_title("as the pacer decides: bars measured, marks predicted", fontsize=10)
    middle.set_xlabel("fixed draft length")
    middle.set_title("predicted; dashed: as the pacer decides", fontsize=10)
    right.set_xlabel("draft position")
    right.set_ylim(0, 1.03)
    right.set_title("share of draft tokens that are right", fontsize=10)
    for axes in (left, middle):
        axes.axhline(1.0, color="black", linewidth=0.8)
        axes.set_ylim(bottom=0)
    for axes in (left, middle, right):
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(axis="y", alpha=0.3)
    if shown:
        middle.legend(fontsize=8)
    figure.tight_layout()
    figure.savefig(path, dpi=120)
    plt.close(figure)


def _bars(axes: Any, one: Evaluated, index: int, count: int, color: str) -> None:
    """Measured speed-ups by kind with their intervals, predicted ones as marks."""
    predicted = list(one.predictions.values())[-1][1].paced
    measured = one.gathered.measured
    kinds = list(predicted)
    width = 0.8 / count
    at_kinds = [at + (index - count / 2 + 0.5) * width for at in range(len(kinds))]
    if measured:
        heights = [measured[kind].ratio for kind in kinds]
        below = [measured[kind].ratio - measured[kind].low for kind in kinds]
        above = [measured[kind].high - measured[kind].ratio for kind in kinds]
        axes.bar(at_kinds, heights, width * 0.9, color=color, alpha=0.75)
        axes.errorbar(at_kinds, heights, (below, above), fmt="none", ecolor="0.3", capsize=2)
    marks = [predicted[kind] for kind in kinds]
    axes.scatter(at_kinds, marks, marker="D", s=26, color=color, edgecolors="black", zorder=3)
    axes.set_xticks(range(len(kinds)), kinds)


def _lengths(axes: Any, one: Evaluated, color: str) -> None:
    prediction = list(one.predictions.values())[-1][1]
    heights = [speeds["all"] for speeds in prediction.fixed.values()]
    axes.plot(list(prediction.fixed), heights, marker="o", label=one.candidate.name, color=color)
    axes.axhline(prediction.paced["all"], color=color, linestyle="--", linewidth=1)


def _places(axes: Any, one: Evaluated, color: str) -> None:
    if one.gathered.recording:
        rates = one.gathered.recording.by_position()
        axes.plot(range(1, len(rates) + 1), rates, marker="o", markersize=4, color=color)
