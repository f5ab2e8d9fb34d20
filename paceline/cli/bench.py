"""paceline bench: our servers beside transformers, in one run and in turn."""

import asyncio
import contextlib
import json
import os
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, Field
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from paceline.bench.report import TARGET_ONLY, Report
from paceline.bench.samples import PROMPTS, Prompt, Sample, read_prompts
from paceline.bench.variants import Served, Variant, baselines
from paceline.cli.processes import answers, running
from paceline.cli.up import draft_command, orchestrator_command, target_command
from paceline.client import Client
from paceline.generation import Speculation
from paceline.models import DEFAULT_DRAFT, DEFAULT_TARGET

Drafter = Literal["model", "ngram", "hybrid"]


class Bench(BaseModel):
    """Compare speeds in one run: each prompt by all variants, then by all in reverse.

    Same weights, dtype, threads and prompts for all; outputs of equal length.
    """

    target: str = Field(DEFAULT_TARGET, description="Target model, as for up.")
    draft: str = Field(DEFAULT_DRAFT, description="Draft model, likewise.")
    drafters: list[Drafter] = Field(
        ["hybrid", "model", "ngram"],
        description="What guesses, one variant each; the first is the speculative one.",
    )
    draft_length: int = Field(4, ge=1, le=32, description="Draft tokens verified in a round.")
    prompts: Path = Field(PROMPTS, description="JSONL of kind and prompt, or text, one a line.")
    kinds: list[str] = Field([], description="Only prompts of these kinds; all unless given.")
    max_tokens: int = Field(64, ge=2, description="Tokens of each output.")
    temperature: float = Field(0.0, ge=0, description="Of our variants; transformers is greedy.")
    transformers: bool = Field(True, description="Measure transformers too.")
    threads: int = Field(
        default_factory=lambda: os.cpu_count() or 1, ge=1, description="Threads of each model."
    )
    dtype: Literal["bfloat16", "float32"] = Field("bfloat16", description="Numbers of weights.")
    draft_weights: Literal["bf16", "int8", "int4"] = Field(
        "int4", description="Weights of the draft."
    )
    port: int = Field(7870, ge=1, le=60000, description="First port; one for each variant.")
    json_: Path | None = Field(None, alias="json", description="Write all figures there.")
    plot: Path | None = Field(None, description="Draw the figures there, as PNG.")

    def cli_cmd(self) -> None:
        """Run the command; exits with 1 when a token differs."""
        console = Console()
        report = asyncio.run(self._run(Console(stderr=True)))
        for table in tables(report):
            console.print(table)
        if self.json_:
            self.json_.write_text(json.dumps(report.as_json(), indent=1))
        if self.plot:
            from paceline.bench.plot import draw  # matplotlib, needed here only

            draw(report, self.plot)
        if any(report.speed(variant).differing_tokens for variant in report.variants):
            raise SystemExit(1)

    async def _run(self, console: Console) -> Report:
        prompts = [
            one for one in read_prompts(self.prompts) if not self.kinds or one.kind in self.kinds
        ]
        async with self._variants(console) as variants:
            samples = await _measure(variants, prompts, self.max_tokens, console)
        return Report(tuple(samples), f"paceline_{self.drafters[0]}")

    @contextlib.asynccontextmanager
    async def _variants(self, console: Console) -> AsyncIterator[list[Variant]]:
        async with contextlib.AsyncExitStack() as stack:
            sockets = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="paceline-")))
            ports = {drafter: self.port + index for index, drafter in enumerate(self.drafters)}

            async def ready() -> None:
                for port in ports.values():
                    await answers(port, drafts=1)

            with console.status("loading models"):
                commands = self._commands(sockets, ports)
                await stack.enter_async_context(running(commands, ready, console, show_logs=False))
                clients = {
                    drafter: await stack.enter_async_context(Client(f"127.0.0.1:{port}"))
                    for drafter, port in ports.items()
                }
                first = clients[self.drafters[0]]
                variants: list[Variant] = []
                if self.transformers:
                    transformers = baselines(
                        self.target, self.draft, self.threads, self.dtype, first
                    )
                    variants += await stack.enter_async_context(transformers)
            variants.append(Served(TARGET_ONLY, first, Speculation.OFF, self.temperature))
            variants += [
                Served(f"paceline_{drafter}", client, Speculation.AUTO, self.temperature)
                for drafter, client in clients.items()
            ]
            yield variants

    def _commands(self, sockets: Path, ports: dict[Drafter, int]) -> dict[str, list[str]]:
        """One target; a draft and an orchestrator for each drafter."""
        common = ["--host=127.0.0.1", "--drain-seconds=0", "--health-port=0", "--metrics-port=0"]
        model = [f"--threads={self.threads}", f"--dtype={self.dtype}", *common]
        commands = {"target": target_command(self.target, sockets / "target", model)}
        for drafter, port in ports.items():
            socket = sockets / drafter
            flags = [*model, f"--weights={self.draft_weights}"]
            draft = draft_command(self.draft, drafter, socket, flags)
            commands[f"draft {drafter}"] = draft
            commands[f"orchestrator {drafter}"] = orchestrator_command(
                port, sockets / "target", socket, self.draft_length, common
            )
        return commands


async def _measure(
    variants: list[Variant], prompts: list[Prompt], max_tokens: int, console: Console
) -> list[Sample]:
    """Each prompt by all variants, A B B A; what they said first, to warm up, does not count."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
    )
    samples = []
    with Progress(*columns, console=console) as progress:
        warming = progress.add_task("warming up", total=len(variants))
        for variant in variants:
            await variant.run(prompts[0], 8)
            progress.advance(warming)
        measuring = progress.add_task("measuring", total=2 * len(prompts) * len(variants))
        for prompt in prompts:
            for variant in [*variants, *reversed(variants)]:
                progress.update(measuring, description=f"{prompt.kind:5} {variant.name}")
                samples.append(await variant.run(prompt, max_tokens))
                progress.advance(measuring)
    return samples


def tables(report: Report) -> list[Table]:
    """Speeds, then ratios."""
    speeds = Table(title="Speeds, by kind of prompt")
    for heading in ("variant", "kind"):
        speeds.add_column(heading)
    for heading in ("tokens/s", "first ms", "gap p50", "p95", "accepted", "differ"):
        speeds.add_column(heading, justify="right")
    for variant in report.variants:
        for kind in report.kinds:
            found = report.speed(variant, kind)
            speeds.add_row(
                variant if kind == "all" else "",
                kind,
                f"{found.tokens_per_second:.2f}",
                f"{found.first_token * 1e3:.0f}",
                f"{found.gap_p50 * 1e3:.0f}",
                f"{found.gap_p95 * 1e3:.0f}",
                f"{found.acceptance_rate:.2f}" if found.acceptance_rate else "",
                str(found.differing_tokens),
                end_section=kind == report.kinds[-1],
            )
    ratios = Table(title="Ratios of tokens per second, with 95 % intervals over prompts")
    ratios.add_column("ratio")
    for kind in report.kinds:
        ratios.add_column(kind, justify="right")
    for name, by_kind in report.ratios().items():
        cells = [
            f"{one.ratio:.2f} [dim]{one.low:.2f}-{one.high:.2f}[/]" for one in by_kind.values()
        ]
        ratios.add_row(name, *cells)
    return [speeds, ratios]
