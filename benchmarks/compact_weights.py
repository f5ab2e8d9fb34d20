"""python -m benchmarks.compact_weights: steps with compact weights and torch's, in turn."""

import argparse
import functools
import statistics
from collections import defaultdict
from collections.abc import Sequence
from unittest.mock import patch

import torch

from benchmarks.timing import median_seconds
from paceline.engine.interfaces import Span
from paceline.engine.torch.loading import load_model
from paceline.engine.torch.model_folder import resolve_model
from paceline.engine.torch.native import product
from paceline.engine.torch.padding import NO_PADDING
from paceline.engine.torch.runner import ModelRunner

ROWS = (1, 2, 4, 6, 8, 12, 16, 24, 32, 64, 240)
CONTEXT = 128
STEPS = 5
"""One behind the other, before the other weights have their turn."""


def main() -> None:
    """Print a line for each count of rows: medians, and the range of the turns' ratios."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="qwen2.5-coder-1.5b")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--turns", type=int, default=6)
    parser.add_argument("--rows", type=int, nargs="+", default=ROWS)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    compact = _runner(options.model)
    with patch.object(product, "library", lambda _: None):
        torchs = _runner(options.model)
    print("rows   torch ms  compact ms  times as fast")
    for rows, (theirs, ours) in _measured((torchs, compact), options.rows, options.turns).items():
        ratios = sorted(before / after for before, after in zip(theirs, ours, strict=True))
        medians = f"{statistics.median(theirs):9.0f}  {statistics.median(ours):10.0f}"
        print(f"{rows:4}  {medians}  {ratios[0]:.2f}-{ratios[-1]:.2f}", flush=True)


def _runner(model: str) -> ModelRunner:
    loaded = load_model(resolve_model(model), torch.bfloat16)
    return ModelRunner(loaded.forward, loaded.device, NO_PADDING, loaded.rope_length.of)


def _measured(
    runners: tuple[ModelRunner, ModelRunner], counts: Sequence[int], turns: int
) -> dict[int, tuple[list[float], list[float]]]:
    """Milliseconds of a step in each turn of each runner, by its rows."""
    caches = [runner.new_cache() for runner in runners]
    found: dict[int, tuple[list[float], list[float]]] = defaultdict(lambda: ([], []))
    for runner, cache in zip(runners, caches, strict=True):
        runner.forward([(cache, Span(0, tuple(range(CONTEXT)), 1))])
    for _ in range(turns):
        for rows in counts:
            span = Span(CONTEXT, tuple(range(rows)), 1)
            for kind, (runner, cache) in enumerate(zip(runners, caches, strict=True)):
                step = functools.partial(runner.forward, [(cache, span)])
                found[rows][kind].append(1e3 * median_seconds(step, STEPS))
    return found


if __name__ == "__main__":
    main()
