"""Variants that are not ours: processes that answer in JSON lines."""

import asyncio
import contextlib
import json
import os
import sys
import tempfile
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import IO, Any

from paceline.client import Client
from paceline.errors import Unavailable
from paceline.protocol.generation import ChatMessage
from paceline_tools.bench.samples import Prompt, Sample
from paceline_tools.local_servers import STOP_SECONDS, how_it_ended

BASELINES = ("generate", "assisted", "lookup")
BATCH_BASELINES = ("continuous_batching",)
ANSWER_SECONDS = 600.0
LINE_BYTES = 4 * 1024 * 1024
NO_VARIABLES: Mapping[str, str] = {}
TOLD_BYTES = 600
"""Of the last words of a process that ended."""


class Other:
    """An engine that is not ours, by one of its methods."""

    def __init__(self, name: str, process: "Answering", client: Client) -> None:
        """`client` makes ids of prompts."""
        self.name = name
        self._process = process
        self._client = client

    async def run(self, prompt: Prompt, max_tokens: int) -> Sample:
        """See Variant."""
        ids = await self._client.tokenize((ChatMessage("user", prompt.text),))
        request = {"method": self.name, "token_ids": ids, "max_tokens": max_tokens}
        answer = await self._process.ask(request)
        return Sample(self.name, prompt, tuple(answer["token_ids"]), tuple(answer["seconds"]))

    async def run_many(self, prompts: list[Prompt], max_tokens: int) -> list[Sample]:
        """See Variant."""
        ids = [await self._client.tokenize((ChatMessage("user", one.text),)) for one in prompts]
        request = {"method": self.name, "prompts": ids, "max_tokens": max_tokens}
        answer = await self._process.ask(request)
        outputs = zip(prompts, answer["outputs"], strict=True)
        return [
            Sample(self.name, prompt, tuple(output["token_ids"]), tuple(output["seconds"]))
            for prompt, output in outputs
        ]


class Answering:
    """A process that answers each line of its input with one of its output."""

    def __init__(self, name: str, process: asyncio.subprocess.Process, log: IO[bytes]) -> None:
        """`log` has what else it says."""
        self._name = name
        self._process = process
        self._log = log

    async def ask(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """Its answer; Unavailable when it has ended."""
        if self._process.stdin is None:
            raise Unavailable(f"{self._name} has no input")
        self._process.stdin.write(json.dumps(request).encode() + b"\n")
        return await self.answer()

    async def answer(self) -> dict[str, Any]:
        """What it says next."""
        if self._process.stdout is None:
            raise Unavailable(f"{self._name} has no output")
        async with asyncio.timeout(ANSWER_SECONDS):
            line = await self._process.stdout.readline()
        if not line:
            how = how_it_ended(await self._process.wait())
            raise Unavailable(f"{self._name} {how}; {self._last_words()}")
        return dict(json.loads(line))

    def _last_words(self) -> str:
        self._log.seek(0)
        words = self._log.read()[-TOLD_BYTES:].decode(errors="replace")
        return f"its last words: {' '.join(words.split()) or 'none'}"


@contextlib.asynccontextmanager
async def answering(
    name: str,
    command: Sequence[str],
    path: str | None = None,
    variables: Mapping[str, str] = NO_VARIABLES,
) -> AsyncIterator[Answering]:
    """A process that has loaded its models; ended when the context is left.

    path: its PATH. variables: of its environment, besides ours.
    """
    with tempfile.TemporaryFile() as log:
        process = await asyncio.create_subprocess_exec(
            *command,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=log,
            limit=LINE_BYTES,
            env={**os.environ, **({"PATH": path} if path else {}), **variables},
        )
        found = Answering(name, process, log)
        try:
            await found.answer()
            yield found
        finally:
            if process.stdin is not None:
                process.stdin.close()  # one that has children ends them itself
            try:
                async with asyncio.timeout(STOP_SECONDS):
                    await process.wait()
            except TimeoutError:
                process.kill()
                await process.wait()


@contextlib.asynccontextmanager
async def baselines(
    names: tuple[str, ...], models: tuple[str, str], threads: int, dtype: str, client: Client
) -> AsyncIterator[list[Other]]:
    """transformers, with target and draft loaded; ended when the context is left."""
    target, draft = models
    command = [
        *(sys.executable, "-m", "paceline.engine.torch.baseline", f"--target={target}"),
        *(f"--draft={draft}", f"--threads={threads}", f"--dtype={dtype}"),
    ]
    async with answering("transformers", command) as process:
        yield [Other(name, process, client) for name in names]
