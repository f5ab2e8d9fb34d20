"""What a long prompt takes: our forward pass, in pieces as a target runs it, and transformers'.

python -m benchmarks.long_prompts MODEL --tokens 2000 8000: both in this process, in turn, with the
same weights, threads and tokens, from an empty cache to the logits behind the last token. Prints
tokens per second, medians and ranges, and what the KV of the prompt takes.
"""

import argparse
import os
import statistics
import time
from collections.abc import Callable, Sequence

import torch
from rich.console import Console
from rich.progress import track
from rich.table import Table
from transformers import AutoModelForCausalLM

from paceline.engine.interfaces import Span
from paceline.engine.torch.exactness.operators import BatchInvariantOperators
from paceline.engine.torch.loading import load_model
from paceline.engine.torch.model_folder import resolve_model
from paceline.engine.torch.padding import batch_invariant
from paceline.engine.torch.runners import TorchRunner, make_runner

Prefill = Callable[[tuple[int, ...]], object]
MIB = 2**20


def ours(runner: TorchRunner, token_ids: tuple[int, ...], piece: int) -> int:
    """Prefill in pieces; returns the bytes of a token's KV."""
    cache, end = runner.new_cache(len(token_ids) + 1), len(token_ids)
    for start in range(0, end, piece):
        stop = min(end, start + piece)
        runner.forward([(cache, Span(start, token_ids[start:stop], int(stop == end)))])
    return cache.token_bytes


@torch.inference_mode()
def theirs(model: torch.nn.Module, token_ids: tuple[int, ...]) -> None:
    """Prefill at once."""
    model(torch.tensor([token_ids]), use_cache=True, logits_to_keep=1)


def speeds(ways: Sequence[Prefill], token_ids: tuple[int, ...], times: int) -> list[list[float]]:
    """Tokens per second of each way, in turn, forwards and backwards."""
    found: list[list[float]] = [[] for _ in ways]
    order = list(range(len(ways)))
    for turn in track(range(times), f"{len(token_ids)} tokens", console=Console(stderr=True)):
        for way in order[:: -1 if turn % 2 else 1]:
            started = time.perf_counter()
            ways[way](token_ids)
            found[way].append(len(token_ids) / (time.perf_counter() - started))
    return found


def with_range(values: Sequence[float]) -> str:
    """Median, least and most."""
    return f"{statistics.median(values):.0f} ({min(values):.0f}-{max(values):.0f})"


def ways_of(options: argparse.Namespace) -> tuple[list[Prefill], int]:
    """Ours and theirs, of one model; and the bytes of KV of a token."""
    folder = resolve_model(options.model)
    operators = BatchInvariantOperators(options.piece)
    loaded = load_model(folder, torch.bfloat16, operators=operators)
    runner = make_runner(loaded, batch_invariant(torch.bfloat16, options.piece), "bfloat16", 0)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.bfloat16).eval()
    token_bytes = ours(runner, (1, 2), options.piece)
    return [
        lambda ids: ours(runner, ids, options.piece),
        lambda ids: theirs(model, ids),
    ], token_bytes


def main() -> None:
    """Print a row for each length."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model")
    parser.add_argument("--tokens", type=int, nargs="+", default=[2000, 8000])
    parser.add_argument("--piece", type=int, default=256, help="tokens a step, as of a target")
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--times", type=int, default=3)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    ways, token_bytes = ways_of(options)
    table = Table(title=f"Prefill of {options.model}, bfloat16, {options.threads} threads")
    for heading in ("tokens", "ours, tokens/s", "transformers", "ours / theirs", "KV MiB"):
        table.add_column(heading, justify="right")
    for count in options.tokens:
        token_ids = tuple((7 * index) % 30_000 + 100 for index in range(count))
        mine, other = speeds(ways, token_ids, options.times)
        ratio = statistics.median(mine) / statistics.median(other)
        kv = f"{token_bytes * count / MIB:.0f}"
        table.add_row(str(count), with_range(mine), with_range(other), f"{ratio:.2f}", kv)
    Console().print(table)


if __name__ == "__main__":
    main()
