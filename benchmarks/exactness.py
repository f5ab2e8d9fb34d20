"""python -m benchmarks.exactness: the real pair, off and forced, token by token; and how fast.

Runs mixed prompts greedily and at T=0.8, each with speculation off and forced in turn,
until so many tokens have been compared; then transformers' generate and its assisted
generation on the same weights, for scale. Prints every difference and a table.
With --lengths instead: long prompts, many streams and resumed ones, see benchmarks.exact_contexts.
"""

import argparse
import asyncio
import json
import statistics
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import cycle
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import Progress
from rich.table import Table

import paceline_tools.bench
from benchmarks import exact_contexts
from paceline.catalog import DEFAULT_DRAFT, DEFAULT_TARGET
from paceline.client import Client, Result
from paceline.engine.torch.model_folder import resolve_model
from paceline.protocol.generation import ChatMessage, GenerateRequest, Speculation
from paceline.protocol.sampling import SamplingParams
from paceline_tools.cli.up_options import UpOptions
from paceline_tools.cli.up_servers import up_running

TEMPERATURES = (0.0, 0.8)
PROMPTS = Path(paceline_tools.bench.__file__).parent / "prompts.jsonl"


@dataclass
class Counts:
    """One kind of prompt at one temperature."""

    tokens: int = 0
    differing: int = 0
    verified: int = 0
    accepted: int = 0
    off: list[float] = field(default_factory=list)
    forced: list[float] = field(default_factory=list)
    generate: list[float] = field(default_factory=list)
    assisted: list[float] = field(default_factory=list)

    @property
    def speedup(self) -> float:
        """Median over prompts of forced against off."""
        return statistics.median(
            forced / off for off, forced in zip(self.off, self.forced, strict=True)
        )


def main() -> None:
    """Run it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--target", default=DEFAULT_TARGET)
    parser.add_argument("--draft", default=DEFAULT_DRAFT)
    parser.add_argument("--draft-length", type=int, default=4)
    parser.add_argument("--tokens", type=int, default=5000, help="tokens to compare")
    parser.add_argument("--max-tokens", type=int, default=128, help="tokens of one output")
    parser.add_argument("--prompts", type=Path, default=PROMPTS, help="JSONL of kind and prompt")
    parser.add_argument("--port", type=int, default=7470)
    parser.add_argument("--no-transformers", action="store_true", help="Paceline alone")
    parser.add_argument("--json", type=Path, help="write the figures there")
    parser.add_argument("--lengths", type=int, nargs="*", help="prompts of so many tokens")
    parser.add_argument("--streams", type=int, nargs="*", default=[1, 16], help="at once")
    parser.add_argument("--resume-every", type=int, default=40, help="tokens")
    options = parser.parse_args()
    if options.lengths:
        rows = asyncio.run(_compare_contexts(options))
        exact_contexts.show(rows)
        sys.exit(any(row.differing for row in rows))
    all_counts: dict[tuple[str, float], Counts] = {}
    asyncio.run(_compare(options, all_counts))
    if not options.no_transformers:
        _measure_transformers(options, all_counts)
    _show(all_counts)
    if options.json:
        options.json.write_text(json.dumps(_figures(all_counts), indent=2))
    sys.exit(any(counts.differing for counts in all_counts.values()))


def _prompts(path: Path) -> list[dict[str, str]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def _tasks(path: Path) -> Iterator[tuple[int, str, str, float]]:
    """Prompts without end: a seed, the kind, the prompt, the temperature."""
    prompts = cycle(_prompts(path))
    for seed, prompt in enumerate(prompts):
        for temperature in TEMPERATURES:
            yield seed, prompt["kind"], prompt["prompt"], temperature


def _up(options: argparse.Namespace) -> UpOptions:
    return UpOptions(
        target=[options.target],
        draft=[options.draft],
        draft_length=options.draft_length,
        port=options.port,
    )


async def _compare_contexts(options: argparse.Namespace) -> list[exact_contexts.Row]:
    console, up = Console(stderr=True), _up(options)
    async with (
        up_running(up),
        Client(f"127.0.0.1:{up.port}") as client,
    ):
        with Progress(console=console) as progress:
            return await exact_contexts.Contexts(client, options, progress).rows()


async def _compare(
    options: argparse.Namespace, all_counts: dict[tuple[str, float], Counts]
) -> None:
    console, up = Console(stderr=True), _up(options)
    async with (
        up_running(up),
        Client(f"127.0.0.1:{up.port}") as client,
    ):
        await _generate(client, "warm up", 0.0, 0, 16, Speculation.FORCE)
        with Progress(console=console) as progress:
            task = progress.add_task("tokens compared", total=options.tokens)
            for seed, kind, prompt, temperature in _tasks(options.prompts):
                order = [Speculation.OFF, Speculation.FORCE][:: -1 if seed % 2 else 1]
                results = {
                    speculation: await _generate(
                        client, prompt, temperature, seed, options.max_tokens, speculation
                    )
                    for speculation in order
                }
                counts = all_counts.setdefault((kind, temperature), Counts())
                count = _add(counts, results[Speculation.OFF], results[Speculation.FORCE])
                progress.advance(task, count)
                if sum(counts.tokens for counts in all_counts.values()) >= options.tokens:
                    return


async def _generate(
    client: Client,
    prompt: str,
    temperature: float,
    seed: int,
    max_tokens: int,
    speculation: Speculation,
) -> Result:
    request = GenerateRequest(
        prompt=(ChatMessage("user", prompt),),
        sampling=SamplingParams(temperature=temperature),
        seed=seed,
        max_tokens=max_tokens,
        speculation=speculation,
    )
    return await client.generate(request).result()


def _add(counts: Counts, off: Result, forced: Result) -> int:
    """Compare two outputs token by token; a missing token differs too."""
    longest = max(len(off.token_ids), len(forced.token_ids))
    same = sum(a == b for a, b in zip(off.token_ids, forced.token_ids, strict=False))
    counts.tokens += longest
    counts.differing += longest - same
    counts.verified += forced.finished.statistics.verified
    counts.accepted += forced.finished.statistics.accepted
    counts.off.append(off.finished.tokens_per_second)
    counts.forced.append(forced.finished.tokens_per_second)
    return longest


def _measure_transformers(
    options: argparse.Namespace, all_counts: dict[tuple[str, float], Counts]
) -> None:
    """One prompt of each kind, greedily, by generate and by assisted generation."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    folder = resolve_model(options.target)
    tokenizer: Any = AutoTokenizer.from_pretrained(folder)
    target: Any = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.bfloat16)
    draft: Any = AutoModelForCausalLM.from_pretrained(
        resolve_model(options.draft), dtype=torch.bfloat16
    )
    seen: set[str] = set()
    for prompt in _prompts(options.prompts):
        if prompt["kind"] in seen or (prompt["kind"], 0.0) not in all_counts:
            continue
        seen.add(prompt["kind"])
        counts = all_counts[prompt["kind"], 0.0]
        messages = [{"role": "user", "content": prompt["prompt"]}]
        inputs = tokenizer.apply_chat_template(
            messages, add_generation_prompt=True, return_tensors="pt", return_dict=True
        )
        for speeds, assistant in ((counts.generate, None), (counts.assisted, draft)):
            started = time.perf_counter()
            output = target.generate(
                **inputs,
                max_new_tokens=options.max_tokens,
                do_sample=False,
                assistant_model=assistant,
            )
            count = output.shape[1] - inputs["input_ids"].shape[1]
            speeds.append(count / (time.perf_counter() - started))


def _show(all_counts: dict[tuple[str, float], Counts]) -> None:
    table = Table(title="Tokens per second, medians; speculation off and forced in turn")
    table.add_column("prompts")
    for heading in (
        "tokens",
        "differ",
        "off",
        "forced",
        "ratio",
        "accepted",
        "generate",
        "assisted",
    ):
        table.add_column(heading, justify="right")
    for (kind, temperature), counts in sorted(all_counts.items()):
        table.add_row(
            f"{kind}, T={temperature}",
            str(counts.tokens),
            str(counts.differing),
            f"{statistics.median(counts.off):.2f}",
            f"{statistics.median(counts.forced):.2f}",
            f"{counts.speedup:.2f}",
            f"{counts.accepted / max(counts.verified, 1):.3f}",
            *(
                f"{statistics.median(speeds):.2f}" if speeds else ""
                for speeds in (counts.generate, counts.assisted)
            ),
        )
    Console().print(table)


def _figures(all_counts: dict[tuple[str, float], Counts]) -> list[dict[str, Any]]:
    return [
        {
            "kind": kind,
            "temperature": temperature,
            "tokens": counts.tokens,
            "differing": counts.differing,
            "off_tokens_per_s": statistics.median(counts.off),
            "forced_tokens_per_s": statistics.median(counts.forced),
            "speedup": counts.speedup,
            "acceptance_rate": counts.accepted / max(counts.verified, 1),
            "generate_tokens_per_s": counts.generate,
            "assisted_tokens_per_s": counts.assisted,
        }
        for (kind, temperature), counts in sorted(all_counts.items())
    ]


if __name__ == "__main__":
    main()
