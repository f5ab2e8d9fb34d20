"""A workload that turns from code to prose and back, on the real pair: lengths follow.

python -m benchmarks.switching --plot FILE.png: outputs one after the other by one orchestrator,
as its pacer decides; draft tokens verified and accepted for each step of the target.
"""

import argparse
import asyncio
from dataclasses import dataclass
from pathlib import Path

import matplotlib as mpl
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from paceline.catalog import DEFAULT_DRAFT, DEFAULT_TARGET
from paceline.client import Client
from paceline.protocol.generation import ChatMessage, GenerateRequest, Speculation
from paceline.protocol.sampling import SamplingParams
from paceline_tools.bench.samples import PROMPTS, Prompt, read_prompts
from paceline_tools.cli.up_options import UpOptions
from paceline_tools.cli.up_servers import up_running

mpl.use("Agg")

from matplotlib import pyplot as plt

PORT = 7890
TURNS = ("code", "prose", "code")
COLORS = {"code": "tab:blue", "prose": "tab:orange"}


@dataclass(frozen=True)
class Output:
    """One output: draft tokens verified and accepted, for each step of the target."""

    kind: str
    verified: float
    accepted: float
    tokens_per_second: float


async def measure(options: argparse.Namespace, console: Console) -> list[Output]:
    """All outputs, in order."""
    prompts = read_prompts(PROMPTS)
    turns = [one for kind in TURNS for one in prompts if one.kind == kind]
    up = UpOptions(
        target=[options.target],
        draft=[options.draft],
        drafter="model",
        port=PORT,
        log_level="warning",
    )
    async with (
        up_running(up),
        Client(f"127.0.0.1:{PORT}") as client,
    ):
        with Progress(console=console, transient=True) as progress:
            return [
                await generate(client, prompt, options.max_tokens)
                for prompt in progress.track(turns, description="code, prose, code")
            ]


async def generate(client: Client, prompt: Prompt, tokens: int) -> Output:
    """One output, greedy."""
    request = GenerateRequest(
        (ChatMessage("user", prompt.text),),
        sampling=SamplingParams(temperature=0.0),
        max_tokens=tokens,
        ignore_eos=True,
        speculation=Speculation.AUTO,
    )
    found = (await client.generate(request).result()).finished
    statistics = found.statistics
    steps = statistics.rounds + statistics.target_only_steps
    return Output(
        prompt.kind,
        statistics.verified / steps,
        statistics.accepted / steps,
        found.tokens_per_second,
    )


def draw(outputs: list[Output], path: Path) -> None:
    """Write a PNG: a bar for each output, its accepted part filled."""
    figure, axes = plt.subplots(figsize=(9, 3.5))
    for index, one in enumerate(outputs):
        axes.bar(index, one.verified, color="none", edgecolor=COLORS[one.kind])
        axes.bar(index, one.accepted, color=COLORS[one.kind])
        axes.annotate(
            f"{one.tokens_per_second:.0f}/s",
            (index, one.verified),
            xytext=(0, 2),
            textcoords="offset points",
            ha="center",
        )
    axes.set_xticks(range(len(outputs)), [one.kind for one in outputs], rotation=45)
    axes.set_ylabel("draft tokens a step\nverified, and accepted (filled)")
    axes.spines[["top", "right"]].set_visible(False)
    figure.tight_layout()
    figure.savefig(path, dpi=120)


def main() -> None:
    """Run it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--target", default=DEFAULT_TARGET)
    parser.add_argument("--draft", default=DEFAULT_DRAFT)
    parser.add_argument("--max-tokens", type=int, default=96, help="of each output")
    parser.add_argument("--plot", type=Path, help="draw it there, as PNG")
    options = parser.parse_args()
    outputs = asyncio.run(measure(options, Console(stderr=True)))
    table = Table(title="Draft tokens a step, output by output")
    for heading in ("kind", "verified", "accepted", "tokens/s"):
        table.add_column(heading, justify="left" if heading == "kind" else "right")
    for one in outputs:
        numbers = (one.verified, one.accepted, one.tokens_per_second)
        table.add_row(one.kind, *(f"{number:.2f}" for number in numbers))
    Console().print(table)
    if options.plot:
        draw(outputs, options.plot)


if __name__ == "__main__":
    main()
