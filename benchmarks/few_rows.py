"""python -m benchmarks.few_rows: whole steps of few rows, by our product and oneDNN's in turn."""

import argparse
import functools
import statistics
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar
from unittest.mock import patch

import torch
from torch import Tensor

from benchmarks.timing import median_seconds
from paceline.engine.interfaces import Span
from paceline.engine.torch.few_rows.product import FewRows
from paceline.engine.torch.loading import load_model
from paceline.engine.torch.model_folder import resolve_model
from paceline.engine.torch.padding import NO_PADDING
from paceline.engine.torch.runner import ModelRunner

ROWS = (1, 2, 4, 6, 8, 12, 16, 20, 24)
CONTEXT = 128
STEPS = 5
"""One behind the other, before the other product has its turn."""
Product = Callable[[Tensor], Tensor]
_make = FewRows.product


@dataclass
class Switched:
    """A layer's product of few rows by ours or oneDNN's, as `ours` says for all layers."""

    few: Product
    many: Product
    ours: ClassVar[bool] = True

    def __call__(self, x: Tensor) -> Tensor:
        """[rows, in] to [rows, out]."""
        return self.few(x) if Switched.ours else self.many(x)


def main() -> None:
    """Print a line for each count of rows: medians, and the range of the turns' ratios."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="qwen2.5-coder-1.5b")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--turns", type=int, default=6)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    with patch.object(FewRows, "product", _switched):
        loaded = load_model(resolve_model(options.model), torch.bfloat16)
    runner = ModelRunner(loaded.forward, loaded.device, NO_PADDING, loaded.rope_length.of)
    print("rows  oneDNN ms  ours ms  times as fast")
    for rows, (theirs, ours) in _measured(runner, options.turns).items():
        ratios = sorted(before / after for before, after in zip(theirs, ours, strict=True))
        medians = f"{statistics.median(theirs):9.0f}  {statistics.median(ours):7.0f}"
        print(f"{rows:4}  {medians}  {ratios[0]:.2f}-{ratios[-1]:.2f}", flush=True)


def _switched(
    self: FewRows, packed: Tensor, weight: Tensor, bias: Tensor | None, many: Product
) -> Switched | None:
    few = _make(self, packed, weight, bias, many)
    if few is None:
        raise SystemExit(f"oneDNN alone has the bits of a layer of {tuple(weight.shape)} here")
    return Switched(few, many)


def _measured(runner: ModelRunner, turns: int) -> dict[int, tuple[list[float], list[float]]]:
    """Milliseconds of a step in each turn, by its rows: oneDNN's, and ours."""
    cache = runner.new_cache()
    runner.forward([(cache, Span(0, tuple(range(CONTEXT)), 1))])
    found: dict[int, tuple[list[float], list[float]]] = defaultdict(lambda: ([], []))
    for _ in range(turns):
        for rows in ROWS:
            span = Span(CONTEXT, tuple(range(rows)), rows)
            step = functools.partial(runner.forward, [(cache, span)])
            for Switched.ours in (False, True):
                found[rows][Switched.ours].append(1e3 * median_seconds(step, STEPS))
    return found


if __name__ == "__main__":
    main()
