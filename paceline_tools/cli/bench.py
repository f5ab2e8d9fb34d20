"""paceline bench: our servers beside transformers, in one run and in turn."""

import asyncio
import contextlib
import json
import tempfile
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field
from rich.console import Console
from rich.progress import Progress, TimeRemainingColumn

from draft_server.drafters.registry import DEFAULT, DRAFTERS, DrafterName
from orchestrator.round_settings import DRAFT_LENGTH
from paceline.catalog import DEFAULT_DRAFT, DEFAULT_TARGET
from paceline.client import Client
from paceline.errors import FailedPrecondition
from paceline.model_files.check import check_model
from paceline.protocol.generation import Speculation
from paceline_tools.bench.delayed_wire import delayed
from paceline_tools.bench.memory_left import check_memory_left
from paceline_tools.bench.others import BASELINES, BATCH_BASELINES, Other, answering, baselines
from paceline_tools.bench.peers.environments import command_of, path_of, prepare, variables_of
from paceline_tools.bench.peers.registry import PEERS, PeerName, variants_of
from paceline_tools.bench.peers.serving import prepare_serving, serving_python
from paceline_tools.bench.report import TARGET_ONLY, Report, Speed
from paceline_tools.bench.samples import Prompt, Sample
from paceline_tools.bench.throughput import LoadRun, median_rates
from paceline_tools.bench.variants import Served, Variant
from paceline_tools.cli.checks import check_matplotlib, check_models
from paceline_tools.cli.flags import Finite
from paceline_tools.cli.options import FigureOptions, ModelOptions, PromptOptions
from paceline_tools.grid import Grid
from paceline_tools.local_servers import answers, running
from paceline_tools.progress import progress
from paceline_tools.server_commands import (
    UNWATCHED,
    draft_command,
    orchestrator_command,
    target_command,
)
from paceline_tools.start_checks import check_ports
from paceline_tools.terminal import check_outputs, console

FIRST = Prompt("chat", "Hello")
"""What a peer is asked as it starts, after which it has taken what memory it needs."""
SPEEDS = (
    "first: to the first token. gap: between tokens, 0 for those that came together; median and "
    "95th percentile in ms. accepted: of draft tokens verified. differ: tokens that are not "
    "{whose}."
)


@dataclass(frozen=True, slots=True)
class _Server:
    """An orchestrator: what is compared, and where it listens."""

    name: str
    drafter: DrafterName
    delay_seconds: float
    port: int

    def draft_socket(self, sockets: Path) -> Path:
        """Where its draft is for it: behind a slow wire, or the draft itself."""
        return sockets / (f"{self.name}-wire" if self.delay_seconds else self.drafter)


class Bench(FigureOptions, ModelOptions, PromptOptions):
    """Compare speeds in one run: each prompt by all variants, then by all in reverse.

    Same weights, dtype, threads and prompts for all; outputs of equal length.
    """

    target: str = Field(DEFAULT_TARGET, description="Target model, as for up.")
    draft: str = Field(DEFAULT_DRAFT, description="Draft model, likewise.")
    target_engine: Literal["torch", "vllm"] = Field(
        "torch",
        description="What computes the target: torch, or vLLM in the environment that peers use.",
    )
    drafters: list[DrafterName] = Field(
        sorted(DRAFTERS, key=lambda name: name != DEFAULT),
        description="What drafts, one variant each; the first is the speculative one.",
    )
    delays: list[Annotated[Finite, Field(ge=0)]] = Field(
        [0.0],
        min_length=1,
        description="Round trips to the draft, in milliseconds beyond its own; a variant each.",
    )
    concurrency: list[Annotated[int, Field(ge=1)]] = Field(
        [],
        description="So many streams at once, in steady state, beside transformers' continuous "
        "batching. Unless given: one stream.",
    )
    transformers: bool = Field(True, description="Measure transformers too.")
    peers: list[PeerName] = Field(
        [],
        description="Other engines to measure beside ours, alone and with the draft; each is "
        "installed once into an environment of its own, and takes the memory of its models. "
        "Unless given: none.",
    )
    draft_weights: Literal["bf16", "int8", "int4"] = Field(
        "int4", description="Weights of the draft."
    )
    port: int = Field(7870, ge=1, le=60000, description="First port; one for each variant.")

    def cli_cmd(self) -> None:
        """Run the command; exits with 1 when a token differs, but where vLLM may round."""
        output = console()
        check_outputs({"--json": self.json_, "--plot": self.plot})
        check_matplotlib({"--plot": self.plot})
        _ = self.chosen  # said before the models are loaded, when there is none
        self._check_servers()
        self._prepare(console(stderr=True))
        if self.concurrency:
            self._sweep(output)
            return
        report = asyncio.run(self._run(console(stderr=True)))
        for table in tables(report):
            output.print(table, "")
        if self.json_:
            self.json_.write_text(json.dumps(report.as_json(), indent=1))
        if self.plot:
            from paceline_tools.bench.plot import draw  # matplotlib, needed here only

            draw(report, self.plot)
        differ = any(report.speed(variant).differing_tokens for variant in report.variants)
        if differ and self.target_engine == "torch":
            raise SystemExit(1)

    def _check_servers(self) -> None:
        """Say what no server could be started with, or where none could listen."""
        models = {"--target": self.target}
        if any(DRAFTERS[one].needs_model for one in self.drafters):
            models["--draft"] = self.draft
        check_models(models)
        for server in self._servers:
            check_ports("127.0.0.1", {server.port: ""}, "--port")

    def _sweep(self, output: Console) -> None:
        loads = asyncio.run(self._load(console(stderr=True)))
        rates = median_rates(loads)
        output.print(rates_table(rates))
        if self.json_:
            self.json_.write_text(json.dumps({"tokens_per_second": rates}, indent=1))
        if self.plot:
            from paceline_tools.bench.plot import draw_rates  # matplotlib, needed here only

            draw_rates(rates, self.plot)

    async def _run(self, console: Console) -> Report:
        async with self._variants(console) as variants:
            samples = await _measure(variants, self.chosen, self.max_tokens, console)
        of_vllm = self.target_engine == "vllm" and "vllm" in self.peers
        return Report(tuple(samples), self._servers[0].name, "vllm" if of_vllm else TARGET_ONLY)

    async def _load(self, console: Console) -> list[LoadRun]:
        async with self._variants(console, alone=False) as variants:
            return await _measure_loads(
                variants, self.chosen, self.concurrency, self.max_tokens, console
            )

    @property
    def _servers(self) -> list[_Server]:
        """An orchestrator, on a port of its own, for each drafter and delay."""
        pairs = [(drafter, delay) for drafter in self.drafters for delay in self.delays]
        several = len(self.delays) > 1
        return [
            _Server(
                f"paceline_{drafter}" + (f"_{delay:g}ms" if several else ""),
                drafter,
                delay / 1e3,
                self.port + index,
            )
            for index, (drafter, delay) in enumerate(pairs)
        ]

    @contextlib.asynccontextmanager
    async def _variants(
        self, console: Console, *, alone: bool = True
    ) -> AsyncIterator[list[Variant]]:
        """Ready to be measured. alone: one stream at a time."""
        servers = self._servers
        async with contextlib.AsyncExitStack() as stack:
            sockets = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="paceline-")))

            async def ready() -> None:
                for server in servers:
                    await answers(server.port, drafts=1)

            with progress(console) as shown:
                shown.add_task("loading models", total=None)
                for server in servers:
                    if server.delay_seconds:
                        listen, draft = server.draft_socket(sockets), sockets / server.drafter
                        wire = delayed(listen, draft, server.delay_seconds)
                        await stack.enter_async_context(wire)
                commands, pythons = self._commands(sockets), {}
                if self.target_engine == "vllm":
                    pythons["target"] = serving_python(sockets)
                await stack.enter_async_context(running(commands, ready, pythons=pythons))
                clients = [
                    await stack.enter_async_context(Client(f"127.0.0.1:{server.port}"))
                    for server in servers
                ]
                variants: list[Variant] = []
                if self.transformers:
                    names = BASELINES if alone else BATCH_BASELINES
                    models = (self.target, self.draft)
                    transformers = baselines(names, models, self.threads, self.dtype, clients[0])
                    variants += await stack.enter_async_context(transformers)
                if alone and self.peers:
                    variants += await self._others(stack, shown, clients[0])
            variants.append(Served(TARGET_ONLY, clients[0], Speculation.OFF, self.temperature))
            variants += [
                Served(server.name, client, Speculation.AUTO, self.temperature)
                for server, client in zip(servers, clients, strict=True)
            ]
            yield variants

    def _prepare(self, console: Console) -> None:
        """The environments of peers, and of a target on vLLM."""
        others = dict.fromkeys([*self.peers, *(["vllm"] if self.target_engine == "vllm" else [])])
        if not others:
            return
        with progress(console) as shown:
            shown.add_task(f"setting up {', '.join(others)}", total=None)
            models = [resolved(self.target), resolved(self.draft)] if self.peers else []
            prepare([*variants_of(self.peers), *others], models)
            if self.target_engine == "vllm":
                prepare_serving()

    async def _others(
        self, stack: contextlib.AsyncExitStack, shown: Progress, client: Client
    ) -> list[Other]:
        """The peers, each a process that has loaded its models."""
        models = [resolved(self.target), resolved(self.draft)]
        found = []
        for name in variants_of(self.peers):
            shown.add_task(f"starting {name.replace('_', ' ')}", total=None)
            peer = PEERS[name]
            command = command_of(peer, models, self.threads, self.dtype)
            started = answering(name, command, path_of(peer), variables_of(peer))
            process = await stack.enter_async_context(started)
            found.append(Other(name, process, client))
            await found[-1].run(FIRST, max_tokens=1)
            check_memory_left(name)
        return found

    def _commands(self, sockets: Path) -> dict[str, list[str]]:
        """One target; a draft for each drafter; an orchestrator for each of them and each delay."""
        model = [f"--threads={self.threads}", f"--dtype={self.dtype}", *UNWATCHED]
        engine = [*model, f"--engine={self.target_engine}"]
        commands = {"target": target_command(self.target, sockets / "target", engine)}
        flags = [*model, f"--weights={self.draft_weights}"]
        for drafter in self.drafters:
            draft = draft_command(self.draft, drafter, sockets / drafter, flags)
            commands[f"draft {drafter}"] = draft
        for server in self._servers:
            commands[f"orchestrator {server.name}"] = orchestrator_command(
                server.port,
                sockets / "target",
                server.draft_socket(sockets),
                DRAFT_LENGTH,  # of forced speculation, which is not measured here
                UNWATCHED,
            )
        return commands


async def _measure(
    variants: list[Variant], prompts: list[Prompt], max_tokens: int, console: Console
) -> list[Sample]:
    """Each prompt by all variants, A B B A; what they said first, to warm up, does not count."""
    samples = []
    with progress(console, TimeRemainingColumn()) as shown:
        warming = shown.add_task("warming up", total=len(variants))
        for variant in variants:
            await variant.run(prompts[0], 8)
            shown.advance(warming)
        measuring = shown.add_task("measuring", total=2 * len(prompts) * len(variants))
        for prompt in prompts:
            for variant in [*variants, *reversed(variants)]:
                shown.update(measuring, description=f"{prompt.kind:5} {variant.name}")
                samples.append(await variant.run(prompt, max_tokens))
                shown.advance(measuring)
    return samples


async def _measure_loads(
    variants: list[Variant],
    prompts: list[Prompt],
    concurrency: list[int],
    max_tokens: int,
    console: Console,
) -> list[LoadRun]:
    """So many prompts at once, by each variant, A B B A."""
    loads = []
    with progress(console, TimeRemainingColumn()) as shown:
        measuring = shown.add_task("measuring", total=2 * len(concurrency) * len(variants))
        for streams in concurrency:
            asked = [prompts[index % len(prompts)] for index in range(streams)]
            for variant in [*variants, *reversed(variants)]:
                shown.update(measuring, description=f"{streams:2} x {variant.name}")
                samples = await variant.run_many(asked, max_tokens)
                loads.append(LoadRun(variant.name, tuple(samples)))
                shown.advance(measuring)
    return loads


def resolved(model: str) -> Path:
    """The folder of a model that is here; peers read no other form."""
    path = check_model(model)
    if path is None or not path.is_dir():
        raise FailedPrecondition(f"peers need the folder of {model}; run: paceline pull {model}")
    return path


def rates_table(rates: dict[int, dict[str, float]]) -> Grid:
    """Tokens per second of all streams together, by how many there are."""
    variants = list(next(iter(rates.values())))
    rows = [
        (str(streams), *(f"{by_variant[variant]:.1f}" for variant in variants))
        for streams, by_variant in rates.items()
    ]
    note = "All streams together; first how many there are at once."
    return Grid("Tokens per second in steady state", ("streams", *variants), rows, note)


def tables(report: Report) -> list[Grid]:
    """Speeds, then ratios."""
    rows = [
        (
            variant.removeprefix("paceline_") if kind == "all" else "",
            kind,
            *_cells(report.speed(variant, kind)),
        )
        for variant in report.variants
        for kind in report.kinds
    ]
    headings = ("tokens/s", "first ms", "gap p50", "p95", "accepted", "differ")
    speeds = Grid(
        "Speeds, by kind of prompt",
        ("variant", "kind", *headings),
        rows,
        SPEEDS.format(whose="the target's" if report.reference == TARGET_ONLY else "vLLM's alone"),
        words=2,
    )
    return [speeds, _ratios(report)]


def _cells(found: Speed) -> tuple[str, ...]:
    times = (found.first_token, found.gap_p50, found.gap_p95)
    return (
        f"{found.tokens_per_second:.2f}",
        *(f"{seconds * 1e3:.0f}" for seconds in times),
        f"{found.acceptance_rate:.2f}" if found.acceptance_rate else "",
        str(found.differing_tokens),
    )


def _ratios(report: Report) -> Grid:
    rows = [
        (
            name.replace("paceline_", "").replace("_", " "),
            *(f"{one.ratio:.2f} {one.low:.2f}-{one.high:.2f}" for one in by_kind.values()),
        )
        for name, by_kind in report.ratios().items()
    ]
    title = "Ratios of tokens per second, with 95 % intervals over prompts"
    return Grid(title, ("ratio", *report.kinds), rows)
