"""Real servers: started one candidate at a time, recorded and measured, stopped."""

import asyncio
import contextlib
import statistics
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

from rich.console import Console
from rich.progress import Progress

from orchestrator.backends.replica import Replica
from orchestrator.backends.vocabulary_relations import by_hash, tokens
from orchestrator.round_settings import DRAFT_LENGTH
from orchestrator.serving.served_models import fetch_tokenizer
from paceline.client import Client
from paceline.errors import FailedPrecondition, Internal, PacelineError
from paceline.protocol.generation import ChatMessage, GenerateRequest, Speculation
from paceline.protocol.model import ModelInfo
from paceline.protocol.sampling import SamplingParams
from paceline.protocol.session import Opening
from paceline.protocol.verdict import TokenLogprobs
from paceline.protocol.vocabulary import Tokens, VocabularyMap, relation
from paceline.rpc.channels import open_channel
from paceline_tools.bench.report import TARGET_ONLY, Report, ratio
from paceline_tools.bench.samples import Prompt
from paceline_tools.bench.variants import SEED, Served
from paceline_tools.evaluation.alone import Alone, common, perplexity
from paceline_tools.evaluation.candidates import DraftCandidate, Weights
from paceline_tools.evaluation.duration import (
    ALONE_COST,
    ALONE_RUNS,
    DRAFT_COST,
    MEASURED_RUNS,
    SCORE_COST,
    Duration,
    EvaluationPlan,
    about,
)
from paceline_tools.evaluation.recorder import (
    COSTED_OUTPUTS,
    DraftRecorder,
    TargetOutput,
    target_costs,
    target_output,
)
from paceline_tools.evaluation.recording import Recording, TargetCosts
from paceline_tools.evaluation.results import Gathered
from paceline_tools.evaluation.watched import started
from paceline_tools.local_servers import answers
from paceline_tools.lost import tell_lost
from paceline_tools.progress import progress
from paceline_tools.server_commands import (
    UNWATCHED,
    draft_command,
    orchestrator_command,
    target_command,
)

Item = TypeVar("Item")
POLL_SECONDS = 0.2
WARM_UP_TOKENS = 8


@dataclass(frozen=True, slots=True)
class Task:
    """What to evaluate. measure: run with speculation and without; alone: and without target."""

    target: str
    candidates: tuple[DraftCandidate, ...]
    prompts: tuple[Prompt, ...]
    max_tokens: int
    temperature: float
    threads: int
    dtype: str
    port: int
    measure: bool = True
    alone: bool = True

    @property
    def sampling(self) -> SamplingParams:
        """Of all outputs."""
        return SamplingParams(temperature=self.temperature)

    @property
    def plan(self) -> EvaluationPlan:
        """How much there is to do."""
        with_model = sum(bool(one.model) for one in self.candidates)
        parts = len(self.prompts), len(self.candidates), with_model
        return EvaluationPlan(*parts, measure=self.measure, alone=self.alone)


class Unfit(FailedPrecondition):
    """The candidate cannot draft for the target."""


@dataclass(frozen=True, slots=True)
class Known:
    """Of the target, found once: its own outputs, their perplexity, and what its steps take."""

    model: ModelInfo
    outputs: tuple[TargetOutput, ...]
    costs: TargetCosts
    tokens: Tokens
    perplexity: float | None = None


async def gather(task: Task, sockets: Path, console: Console) -> list[Gathered]:
    """Record and measure each candidate; what is wrong with one is told with it.

    Raises PacelineError, in one line, where the target itself cannot be had.
    """
    with progress(console) as shown:
        console.print(str(task.plan), markup=False, highlight=False)
        driver = _Driver(task, sockets, console, shown, Duration(task.plan, time.monotonic))
        async with driver.target() as known:
            return [await driver.candidate(one, known) for one in task.candidates]


@dataclass(frozen=True, slots=True)
class _Driver:
    """Does one thing at a time: no two models work at once while something is measured."""

    task: Task
    sockets: Path
    console: Console
    progress: Progress
    duration: Duration

    @contextlib.asynccontextmanager
    async def target(self) -> AsyncIterator[Known]:
        """The target's process, and what it says by itself."""
        command = target_command(self.task.target, self.sockets / "target", self._flags("bf16"))
        async with self._server("target", command, "target") as replica:
            yield await self._know(replica)

    async def candidate(self, candidate: DraftCandidate, known: Known) -> Gathered:
        """Record and measure one. What fails beside it is no fault of the candidate's."""
        try:
            gathered = await self._with_draft(candidate, known)
        except Unfit as error:
            return Gathered(candidate, problem=str(error))
        except PacelineError as error:
            return Gathered(candidate, failure=str(error))
        try:
            if self.task.alone and candidate.model and gathered.report:
                alone = await self._alone(candidate, known, gathered.report)
                return replace(gathered, alone=alone)
        except PacelineError as error:
            return replace(gathered, problem=f"not served alone: {error}")
        return gathered

    async def _know(self, replica: Replica) -> Known:
        tokenizer = await fetch_tokenizer(replica)
        model = _model(replica)
        outputs = []
        for index, prompt in enumerate(
            self._track(self.task.prompts, "target: its own outputs", 1.0)
        ):
            opening = Opening(
                request_id=f"evaluate-{index}",
                prompt_token_ids=tokenizer.encode((ChatMessage("user", prompt.text),)),
                sampling=self.task.sampling,
                seed=SEED,
                max_tokens=self.task.max_tokens,
                stop_token_ids=frozenset(model.eos_token_ids),
                cache_salt=f"evaluate-{index}",
            )
            outputs.append(await target_output(replica, prompt, opening))
        costs = await target_costs(replica, outputs)
        self.duration.advance(min(COSTED_OUTPUTS, len(outputs)))
        known = Known(model, tuple(outputs), costs, await tokens(replica))
        if not self.task.alone:
            return known
        its_own = [output.token_ids for output in outputs]
        found = await self._perplexity(known, its_own, "target: perplexity")
        return replace(known, perplexity=found)

    async def _with_draft(self, candidate: DraftCandidate, known: Known) -> Gathered:
        weights: Weights | None = candidate.weights if candidate.model else None
        command = draft_command(
            candidate.model, candidate.drafter, self.sockets / "draft", self._flags(weights)
        )
        async with self._server("draft", command, candidate.name) as replica:
            draft = _model(replica)
            found = by_hash(draft, known.model)
            if found is None:
                found = relation(known.tokens, await tokens(replica))
                self.console.print(f"{candidate.name}: {found} as the target's")
            if not found.usable:
                raise Unfit(f"its vocabulary is not the target's: {found}")
            recording = await self._record(candidate, known, replica, found.map)
            report = await self._measure(candidate) if self.task.measure else None
        return Gathered(candidate, recording=recording, report=report)

    async def _record(
        self,
        candidate: DraftCandidate,
        known: Known,
        replica: Replica,
        vocabulary: VocabularyMap | None,
    ) -> Recording:
        recorder = DraftRecorder(replica, known.model.vocabulary_size, vocabulary)
        tracked = self._track(known.outputs, f"{candidate.name}: draft tokens", DRAFT_COST)
        outputs = [await recorder.record(output) for output in tracked]
        return Recording(
            target=self.task.target,
            candidate=candidate.name,
            drafter=candidate.drafter,
            shares_host=_model(replica).shares_cores(known.model),
            model=candidate.model,
            weights=candidate.weights,
            dtype=self.task.dtype,
            target_costs=known.costs,
            draft_costs=recorder.costs,
            outputs=tuple(outputs),
        )

    async def _measure(self, candidate: DraftCandidate) -> Report:
        """Each prompt off, auto, auto, off; what was said first, to warm up, does not count."""
        name = f"paceline_{candidate.name}"
        async with self._orchestrator(self.sockets / "target", self.sockets / "draft") as client:
            off = self._served(TARGET_ONLY, client, Speculation.OFF)
            auto = self._served(name, client, Speculation.AUTO)
            for variant in (off, auto):
                await variant.run(self.task.prompts[0], WARM_UP_TOKENS)
            what = f"{candidate.name}: off and auto"
            tracked = self._track(self.task.prompts, what, MEASURED_RUNS)
            samples = [
                await variant.run(prompt, self.task.max_tokens)
                for prompt in tracked
                for variant in (off, auto, auto, off)
            ]
        return Report(tuple(samples), name)

    async def _alone(self, candidate: DraftCandidate, known: Known, report: Report) -> Alone:
        """The candidate as a target of its own, then what the target thinks of its outputs."""
        socket = self.sockets / "alone"
        command = target_command(candidate.model, socket, self._flags(candidate.weights))
        async with (
            self._server("alone", command, f"{candidate.name} alone"),
            self._orchestrator(socket, None) as client,
        ):
            served = self._served("alone", client, Speculation.OFF)
            await served.run(self.task.prompts[0], WARM_UP_TOKENS)
            what = f"{candidate.name}: alone"
            tracked = self._track(self.task.prompts * ALONE_RUNS, what, ALONE_COST)
            samples = [await served.run(prompt, self.task.max_tokens) for prompt in tracked]
        said = [sample.token_ids for sample in samples[: len(self.task.prompts)]]
        its_own = [output.token_ids for output in known.outputs]
        leading = [common(*pair) for pair in zip(said, its_own, strict=True)]
        other = [at for at, one, own in zip(leading, said, its_own, strict=True) if one != own]
        return Alone(
            outputs=len(said),
            identical=len(said) - len(other),
            divergence=statistics.median(other) if other else 0.0,
            perplexity=await self._perplexity(known, said, f"{candidate.name}: perplexity"),
            target_perplexity=known.perplexity,
            speed=ratio(samples, report.of(TARGET_ONLY)),
        )

    async def _perplexity(
        self, known: Known, outputs: Sequence[tuple[int, ...]], what: str
    ) -> float | None:
        """Of outputs to the prompts, by the target; None where it tells no logprobs of prompts."""
        if "prompt_logprobs" not in known.model.features:
            return None
        logprobs: list[TokenLogprobs] = []
        async with self._orchestrator(self.sockets / "target", None) as client:
            pairs = list(zip(known.outputs, outputs, strict=True))
            for output, tokens in self._track(pairs, what, SCORE_COST):
                prompt = output.opening.prompt_token_ids
                request = GenerateRequest(
                    prompt + tokens,
                    max_tokens=1,
                    prompt_logprobs=0,
                    speculation=Speculation.OFF,
                )
                generation = client.generate(request, on_lost=tell_lost)
                result = await generation.result()
                logprobs += result.prompt_logprobs[len(prompt) - 1 :]
        return perplexity(logprobs)

    def _served(self, name: str, client: Client, speculation: Speculation) -> Served:
        return Served(name, client, speculation, self.task.temperature, ignore_eos=False)

    @contextlib.asynccontextmanager
    async def _orchestrator(self, target: Path, draft: Path | None) -> AsyncIterator[Client]:
        """An orchestrator between servers that run; a client of it."""
        port = self.task.port
        command = orchestrator_command(port, target, draft, DRAFT_LENGTH, UNWATCHED)

        async def ready() -> None:
            await answers(port, drafts=int(draft is not None))

        servers = started("orchestrator", command, ready)
        async with servers, Client(f"127.0.0.1:{port}") as client:
            yield client

    @contextlib.asynccontextmanager
    async def _server(self, name: str, command: list[str], what: str) -> AsyncIterator[Replica]:
        """A draft or target server on the socket called `name`, ready."""
        socket = self.sockets / name
        replica = Replica(f"unix:{socket}", open_channel(f"unix:{socket}"))

        async def ready() -> None:
            while not replica.ready:
                await asyncio.sleep(POLL_SECONDS)
                await replica.poll()

        loading = self.progress.add_task(f"{what}: loading", total=None)
        async with started(name, command, ready):
            self.progress.remove_task(loading)
            try:
                yield replica
            finally:
                await replica.channel.close()

    def _flags(self, weights: Weights | None) -> list[str]:
        """weights: None for a server without a model."""
        numbers = [f"--threads={self.task.threads}", f"--dtype={self.task.dtype}", *UNWATCHED]
        return numbers if weights is None else [*numbers, f"--weights={weights}"]

    def _track(self, items: Sequence[Item], what: str, units: float) -> Iterator[Item]:
        """Each in turn, with progress and what is left. units: what one is of the plan."""
        task = self.progress.add_task(what, total=len(items))
        self.duration.begin()
        for item in items:
            first = not self.duration.done
            yield item
            self.duration.advance(units)
            if first:
                total = about(self.duration.total_seconds)
                self.console.print(f"this takes {total} in all, and the loading of models")
            left = f"{what}, {about(self.duration.left_seconds)} left in all"
            self.progress.update(task, description=left)
            self.progress.advance(task)
        self.progress.update(task, description=what)


def _model(replica: Replica) -> ModelInfo:
    if replica.model is None:
        raise Internal("a server that is ready has no model")
    return replica.model
