"""The report as a picture: speeds by kind, and acceptance by draft position."""

from pathlib import Path

import matplotlib as mpl

from paceline_tools.bench.report import Report

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
        rates = report.speed(variant).accepted_by_position
        if rates:
            right.plot(range(1, len(rates) + 1), rates, marker="o", label=variant)
    left.set_xticks(range(len(kinds)), kinds)
    left.set_ylabel("tokens per second, prompt included")
    left.legend(fontsize=8, ncols=2)
    right.set_ylim(0, 1.02)
    right.set_xlabel("draft position")
    right.set_ylabel("accepted of verified draft tokens")
    for axes in (left, right):
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(axis="y", alpha=0.3)
    figure.tight_layout()
    figure.savefig(path, dpi=120)
    plt.close(figure)


def draw_rates(rates: dict[int, dict[str, float]], path: Path) -> None:
    """Write a PNG: tokens per second of all streams together, by how many there are."""
    figure, axes = plt.subplots(figsize=(7, 4.5))
    for variant in next(iter(rates.values())):
        axes.plot(
            list(rates),
            [by_variant[variant] for by_variant in rates.values()],
            marker="o",
            label=variant,
        )
    axes.set_xscale("log", base=2)
    axes.set_xticks(list(rates), [str(streams) for streams in rates])
    axes.set_ylim(bottom=0)
    axes.set_xlabel("streams")
    axes.set_ylabel("tokens per second in steady state")
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="y", alpha=0.3)
    axes.legend(fontsize=8)
    figure.tight_layout()
    figure.savefig(path, dpi=120)
    plt.close(figure)
