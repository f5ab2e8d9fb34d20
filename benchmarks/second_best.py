"""How often the draft's second best is the target's token where its best is not.

python -m benchmarks.second_best: the target writes an output for each prompt, greedily and at
T=0.7; the draft is led along it token by token, with the same noise. Prints, by the margin of
the draft's best noisy score over its second, how often the best is the target's token and,
where it is not, how often the second is, and the third. Then, how many tokens a verification of
4 or 8 draft tokens decides, with a branch of the second-best token at each of them and without.
"""

import argparse
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

import torch
from rich.console import Console
from rich.progress import track
from rich.table import Table
from tokenizers import Tokenizer

import paceline_tools.bench
from paceline.catalog import DEFAULT_DRAFT, DEFAULT_TARGET
from paceline.engine.interfaces import KVCache, Logits, Span
from paceline.engine.sampling.history import History
from paceline.engine.sampling.sampler import noisy_scores, pick
from paceline.engine.torch.loading import load_model
from paceline.engine.torch.model_folder import resolve_model
from paceline.engine.torch.padding import NO_PADDING
from paceline.engine.torch.runner import ModelRunner
from paceline.protocol.sampling import SamplingParams

PROMPTS = Path(paceline_tools.bench.__file__).parent / "prompts.jsonl"
TEMPERATURES = (0.0, 0.7)
BOUNDS = (0.25, 0.5, 1.0, 2.0, 4.0, 8.0)
"""Between margins that are told apart."""
LENGTHS = (4, 8)
"""Draft tokens of a verification."""
_ROWS = 128


@dataclass(frozen=True)
class Position:
    """A position of an output. rank: of the target's token among the draft's, from 0."""

    output: int
    kind: str
    temperature: float
    margin: float
    rank: int


@dataclass
class Output:
    """An output of the target, as it grows."""

    kind: str
    sampling: SamplingParams
    seed: int
    prompt: tuple[int, ...]
    history: History
    tokens: list[int]


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--target", default=DEFAULT_TARGET)
    parser.add_argument("--draft", default=DEFAULT_DRAFT)
    parser.add_argument("--tokens", type=int, default=96, help="of each output")
    parser.add_argument("--dtype", default="bfloat16", choices=("bfloat16", "float32"))
    parser.add_argument("--prompts", type=Path, default=PROMPTS, help="JSONL of kind and prompt")
    options = parser.parse_args()
    with torch.inference_mode():
        outputs = _write(options)
        positions = list(_lead(_runner(options.draft, options.dtype), outputs))
    console = Console()
    console.print(_table("margin", positions, lambda position: _bucket(position.margin)))
    console.print(
        _table("prompts", positions, lambda position: f"{position.kind}, T={position.temperature}")
    )
    console.print(_decided_table(positions))


def _runner(model: str, dtype: str) -> ModelRunner:
    loaded = load_model(resolve_model(model), getattr(torch, dtype))
    return ModelRunner(loaded.forward, loaded.device, NO_PADDING)


def _write(options: argparse.Namespace) -> list[Output]:
    """All outputs at once, one row of each a step."""
    folder = resolve_model(options.target)
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    prompts = [json.loads(line) for line in options.prompts.read_text().splitlines()]
    outputs = []
    for seed, prompt in enumerate(prompts):
        text = f"<|im_start|>user\n{prompt['prompt']}<|im_end|>\n<|im_start|>assistant\n"
        ids = tuple(tokenizer.encode(text).ids)
        for temperature in TEMPERATURES:
            sampling = SamplingParams(temperature=temperature)
            outputs.append(Output(prompt["kind"], sampling, seed, ids, History(ids), list(ids)))
    runner = _runner(options.target, options.dtype)
    caches = [runner.new_cache() for _ in outputs]
    for cache, output in zip(caches, outputs, strict=True):
        _take(output, runner.forward([(cache, Span(0, output.prompt, 1))])[0][0])
    for _ in track(range(options.tokens - 1), console=Console(stderr=True)):
        batch: list[tuple[KVCache, Span]] = [
            (cache, Span(cache.length, (output.tokens[-1],), 1))
            for cache, output in zip(caches, outputs, strict=True)
        ]
        for output, logits in zip(outputs, runner.forward(batch), strict=True):
            _take(output, logits[0])
    return outputs


def _take(output: Output, logits: Logits) -> None:
    token = pick(logits, output.sampling, output.seed, output.history, ())
    output.history.append(token)
    output.tokens.append(token)


def _lead(runner: ModelRunner, outputs: list[Output]) -> Iterator[Position]:
    """The draft's ranking at each position of the outputs, given the target's tokens before it."""
    for index, output in enumerate(track(outputs, console=Console(stderr=True))):
        cache, history = runner.new_cache(), History(output.prompt)
        for start in range(0, len(output.tokens) - 1, _ROWS):
            span = tuple(output.tokens[start : min(start + _ROWS, len(output.tokens) - 1)])
            rows = runner.forward([(cache, Span(start, span, len(span)))])[0]
            for position, row in enumerate(rows, start + 1):
                if position < len(output.prompt):
                    continue
                token = output.tokens[position]
                ids, scores = noisy_scores(row, output.sampling, output.seed, history, ())
                order = (-scores).argsort(kind="stable")
                margin = float(scores[order[0]] - scores[order[1]]) if len(order) > 1 else 26.1
                rank = [*ids[order], token].index(token)
                yield Position(index, output.kind, output.sampling.temperature, margin, rank)
                history.append(token)


def decided(ranks: Sequence[int], length: int, *, branches: bool) -> list[int]:
    """Tokens of each verification of `length` draft tokens, up to where the output ends.

    ranks: of the target's tokens among the draft's.
    """
    found: list[int] = []
    start = 0
    while start + length < len(ranks):
        right = next((at for at in range(length) if ranks[start + at]), length)
        second = branches and right < length and ranks[start + right] == 1
        found.append(right + 1 + second)
        start += found[-1]
    return found


def _decided_table(positions: list[Position]) -> Table:
    table = Table(title="Tokens that a verification decides")
    for heading in ("prompts", "draft tokens", "without branches", "with", "ratio"):
        table.add_column(heading, justify="right")
    outputs = [list(group) for _, group in groupby(positions, key=lambda one: one.output)]
    for kind in (*sorted({position.kind for position in positions}), "all"):
        chosen = [one for one in outputs if kind in {one[0].kind, "all"}]
        for length in LENGTHS:
            before, after = (
                _mean([[one.rank for one in output] for output in chosen], length, branches)
                for branches in (False, True)
            )
            cells = (f"{before:.2f}", f"{after:.2f}", f"{after / before:.3f}")
            table.add_row(kind, str(length), *cells)
    return table


def _mean(outputs: list[list[int]], length: int, branches: bool) -> float:
    found = [one for ranks in outputs for one in decided(ranks, length, branches=branches)]
    return sum(found) / max(1, len(found))


def _bucket(margin: float) -> str:
    low = max((bound for bound in (0.0, *BOUNDS) if margin >= bound), default=0.0)
    return f"from {low:4.2f}"


def _table(by: str, positions: list[Position], key: Callable[[Position], str]) -> Table:
    table = Table(title=f"The target's token in the draft's ranking, by {by}")
    table.add_column(by)
    for heading in ("positions", "best", "second where not best", "third where neither"):
        table.add_column(heading, justify="right")
    groups: dict[str, list[int]] = {}
    for position in positions:
        groups.setdefault(key(position), []).append(position.rank)
        groups.setdefault("~all", []).append(position.rank)
    for name, ranks in sorted(groups.items()):
        wrong, neither = [rank for rank in ranks if rank], [rank for rank in ranks if rank > 1]
        second = sum(rank == 1 for rank in wrong) / max(len(wrong), 1)
        third = sum(rank == 2 for rank in neither) / max(len(neither), 1)
        best = 1 - len(wrong) / len(ranks)
        cells = (f"{best:.3f}", f"{second:.3f} of {len(wrong)}", f"{third:.3f} of {len(neither)}")
        table.add_row(name.strip("~"), str(len(ranks)), *cells)
    return table


if __name__ == "__main__":
    main()
