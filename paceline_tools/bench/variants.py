"""What is compared: a variant is one way to get an output. Our servers are some."""

import asyncio
import functools
import time
from typing import Protocol

from paceline.client import Client
from paceline.errors import Unavailable
from paceline.protocol.generation import ChatMessage, GenerateRequest, Speculation
from paceline.protocol.sampling import SamplingParams
from paceline_tools.bench.samples import Prompt, Sample
from paceline_tools.lost import tell_lost

SEED = 7
"""Of all outputs."""


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
        # The time until it goes on counts: whoever reads the figures is to know of it.
        on_lost = functools.partial(tell_lost, what=f"{self.name}, {prompt.text[:40]!r}: ")
        started = time.perf_counter()
        tokens: list[int] = []
        seconds: list[float] = []
        generation = self._client.generate(request, on_lost=on_lost)
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
