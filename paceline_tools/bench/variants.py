"""What is compared: our servers with each drafter, and transformers in a process of its own."""

import asyncio
import contextlib
import json
import sys
import time
from collections.abc import AsyncIterator
from typing import Any, Protocol

from paceline.client import Client
from paceline.errors import Unavailable
from paceline.protocol.generation import ChatMessage, GenerateRequest, Speculation
from paceline.protocol.sampling import SamplingParams
from paceline_tools.bench.samples import Prompt, Sample

BASELINES = ("generate", "assisted", "lookup")
BATCH_BASELINES = ("continuous_batching",)
SEED = 7
"""Of all outputs."""
ANSWER_SECONDS = 600.0
LINE_BYTES = 4 * 1024 * 1024


class Variant(Protocol):
    """One way to get an output."""

    @property
    def name(self) -> str:
        """What it is called in tables."""

    async def run(self, prompt: Prompt, max_tokens: int) -> Sample:
        """Get an output of exactly `max_tokens` tokens."""

    async def run_many(self, prompts: list[Prompt], max_tokens: int) -> list[Sample]:
        """Get the outputs of all at once."""


class Served:
    """Our servers."""

    def __init__(
        self,
        name: str,
        client: Client,
        speculation: Speculation,
        temperature: float,
        *,
        ignore_eos: bool = True,
    ) -> None:
        """`client` is of the orchestrator to ask. ignore_eos: all outputs are equally long."""
        self.name = name
        self._client = client
        self._speculation = speculation
        self._temperature = temperature
        self._ignore_eos = ignore_eos

    async def run(self, prompt: Prompt, max_tokens: int) -> Sample:
        """See Variant."""
        request = GenerateRequest(
            prompt=(ChatMessage("user", prompt.text),),
            sampling=SamplingParams(temperature=self._temperature),
            seed=SEED,
            max_tokens=max_tokens,
            ignore_eos=self._ignore_eos,
            speculation=self._speculation,
            # Nothing is shared: each output pays for its own prompt.
            cache_salt=f"{time.perf_counter_ns()}",
        )
        started = time.perf_counter()
        tokens: list[int] = []
        seconds: list[float] = []
        generation = self._client.generate(request)
        async for delta in generation:
            tokens += [token.id for token in delta.tokens]
            seconds += [time.perf_counter() - started] * len(delta.tokens)
        if generation.finished is None:
            raise Unavailable("the stream ended before it was finished")
        found = generation.finished.statistics
        return Sample(
            self.name,
            prompt,
            tuple(tokens),
            tuple(seconds),
            found.verified_by_position,
            found.accepted_by_position,
            found.overhead_seconds,
        )

    async def run_many(self, prompts: list[Prompt], max_tokens: int) -> list[Sample]:
        """See Variant."""
        return await asyncio.gather(*(self.run(prompt, max_tokens) for prompt in prompts))


class Baseline:
    """transformers, by one of its methods."""

    def __init__(self, name: str, process: asyncio.subprocess.Process, client: Client) -> None:
        """`process` runs paceline.engine.torch.baseline; `client` makes ids of prompts."""
        self.name = name
        self._process = process
        self._client = client

    async def run(self, prompt: Prompt, max_tokens: int) -> Sample:
        """See Variant."""
        ids = await self._client.tokenize((ChatMessage("user", prompt.text),))
        request = {"method": self.name, "token_ids": ids, "max_tokens": max_tokens}
        answer = await _exchange(self._process, request)
        return Sample(self.name, prompt, tuple(answer["token_ids"]), tuple(answer["seconds"]))

    async def run_many(self, prompts: list[Prompt], max_tokens: int) -> list[Sample]:
        """See Variant."""
        ids = [await self._client.tokenize((ChatMessage("user", one.text),)) for one in prompts]
        request = {"method": self.name, "prompts": ids, "max_tokens": max_tokens}
        answer = await _exchange(self._process, request)
        outputs = zip(prompts, answer["outputs"], strict=True)
        return [
            Sample(self.name, prompt, tuple(output["token_ids"]), tuple(output["seconds"]))
            for prompt, output in outputs
        ]


@contextlib.asynccontextmanager
async def baselines(
    names: tuple[str, ...], models: tuple[str, str], threads: int, dtype: str, client: Client
) -> AsyncIterator[list[Baseline]]:
    """transformers, with target and draft loaded; ended when the context is left."""
    target, draft = models
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "paceline.engine.torch.baseline", f"--target={target}"),
        *(f"--draft={draft}", f"--threads={threads}", f"--dtype={dtype}"),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
        limit=LINE_BYTES,
    )
    try:
        await _answer(process)
        yield [Baseline(name, process, client) for name in names]
    finally:
        process.kill()
        await process.wait()


async def _exchange(process: asyncio.subprocess.Process, request: dict[str, Any]) -> dict[str, Any]:
    if process.stdin is None:
        raise Unavailable("the baseline has no input")
    process.stdin.write(json.dumps(request).encode() + b"\n")
    return await _answer(process)


async def _answer(process: asyncio.subprocess.Process) -> dict[str, Any]:
    if process.stdout is None:
        raise Unavailable("the baseline has no output")
    async with asyncio.timeout(ANSWER_SECONDS):
        line = await process.stdout.readline()
    if not line:
        raise Unavailable(f"the baseline ended with {await process.wait()}")
    answer = json.loads(line)
    return dict(answer)
