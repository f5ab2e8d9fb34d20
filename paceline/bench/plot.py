"""The report as a picture: speeds by kind, and acceptance by place."""

from pathlib import Path

import matplotlib as mpl

from paceline.bench.report import Report

mpl.use("Agg")

from matplotlib import pyplot as plt


def draw(report: Report, path: Path) -> None:
    """Write a PNG."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(12, 4.5), width_ratios=(3, 1))
    kinds, variants = report.kinds, report.variants
    width = 0.8 / len(variants)
    for index, variant in enumerate(variants):
        speeds = [report.speed(variant, kind).tokens_per_second for kind in kinds]
        places = [at + (index - len(variants) / 2 + 0.5) * width for at in range(len(kinds))]
        bars = left.bar(places, speeds, width * 0.92, label=variant)
        left.bar_label(bars, fmt="%.1f", fontsize=7, padding=1)
        rates = report.speed(variant).accepted_by_place
        if rates:
            right.plot(range(1, len(rates) + 1), rates, marker="o", label=variant)
    left.set_xticks(range(len(kinds)), kinds)
    left.set_ylabel("tokens per second, prompt included")
    left.legend(fontsize=8, ncols=2)
    right.set_ylim(0, 1.02)
    right.set_xlabel("place in the round")
    right.set_ylabel("accepted of verified draft tokens")
    for axes in (left, right):
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(axis="y", alpha=0.3)
    figure.tight_layout()
    figure.savefig(path, dpi=120)
    plt.close(figure)
