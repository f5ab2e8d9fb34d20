"""Part of benchmarks.exactness: long prompts, many streams at once, and streams that resume.

For each length of prompts, greedily and at T=0.8: the output alone, without speculation; the same
forced; from many streams at once, forced; and resumed at every so many tokens. No two share a
prompt's KV unless they run at once, so that each prefills anew.
"""

import argparse
import asyncio
import dataclasses
import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from paceline.client import Client
from paceline.engine.torch.exactness.instruction_set import instruction_set
from paceline.protocol.generation import GenerateRequest, Speculation
from paceline.protocol.sampling import SamplingParams

TEXTS = Path(__file__).parents[1] / "docs" / "decisions"
TEMPERATURES = (0.0, 0.8)
SHARED_BY = 4
"""Streams at once that may share the KV of their prompt."""


@dataclass(frozen=True, slots=True)
class Row:
    """What one way to run the same outputs came to."""

    length: int
    way: str
    tokens: int
    differing: int


class Contexts:
    """Compares outputs over a client."""

    def __init__(self, client: Client, options: argparse.Namespace, progress: Progress) -> None:
        """options: as of the command."""
        self._client = client
        self._options = options
        self._progress = progress
        self._salts = itertools.count()

    async def rows(self) -> list[Row]:
        """All lengths in all ways."""
        text = "".join(page.read_text() for page in sorted(TEXTS.glob("*.md")))
        request = GenerateRequest(prompt=text[:16000], max_tokens=1)
        ids = (await self._client.generate(request).result()).started.prompt_token_ids
        return [row for length in self._options.lengths for row in await self._of(ids, length)]

    async def _of(self, ids: Sequence[int], length: int) -> list[Row]:
        asked = [
            GenerateRequest(
                prompt=tuple(ids[seed * 7 : seed * 7 + length]),
                sampling=SamplingParams(temperature=temperature),
                seed=seed,
                max_tokens=self._options.max_tokens,
                ignore_eos=True,
                speculation=Speculation.OFF,
            )
            for seed, temperature in enumerate(TEMPERATURES)
        ]
        expected = [await self._output(request) for request in asked]
        pairs = list(zip(asked, expected, strict=True))
        forced = [(_forced(request), tokens) for request, tokens in pairs]
        rows = [await self._way(length, "forced, alone", forced, 1)]
        for streams in self._options.streams:
            if streams > 1:
                load_class = forced * (streams // len(forced))
                way = f"forced, {streams} at once"
                rows.append(await self._way(length, way, load_class, streams))
        every = range(
            self._options.resume_every, self._options.max_tokens, self._options.resume_every
        )
        resumed = [
            (dataclasses.replace(request, output_token_ids=tokens[:at]), tokens)
            for request, tokens in forced
            for at in every
        ]
        rows.append(await self._way(length, f"resumed at {', '.join(map(str, every))}", resumed, 1))
        return rows

    async def _way(
        self,
        length: int,
        way: str,
        asked: list[tuple[GenerateRequest, tuple[int, ...]]],
        at_once: int,
    ) -> Row:
        """All of them, `at_once` at a time, against what is expected."""
        task = self._progress.add_task(f"{length} tokens, {way}", total=len(asked))
        compared = differing = 0
        for start in range(0, len(asked), at_once):
            group = asked[start : start + at_once]
            salts = [f"{next(self._salts) // SHARED_BY}" if at_once > 1 else "" for _ in group]
            outputs = await asyncio.gather(
                *(
                    self._output(request, salt)
                    for (request, _), salt in zip(group, salts, strict=True)
                )
            )
            for (request, expected), output in zip(group, outputs, strict=True):
                begun = len(request.output_token_ids)
                compared += len(expected) - begun
                differing += sum(a != b for a, b in zip(expected[begun:], output, strict=True))
            self._progress.advance(task, len(outputs))
        return Row(length, way, compared, differing)

    async def _output(self, request: GenerateRequest, salt: str = "") -> tuple[int, ...]:
        """Tokens of an output; without a salt nobody shares its prompt's KV."""
        salt = f"crowd {salt}" if salt else f"alone {next(self._salts)}"
        result = await self._client.generate(dataclasses.replace(request, cache_salt=salt)).result()
        return tuple(result.token_ids)


def _forced(request: GenerateRequest) -> GenerateRequest:
    return dataclasses.replace(request, speculation=Speculation.FORCE)


def show(rows: list[Row]) -> None:
    """The table."""
    title = "Tokens against those of one stream alone, without speculation"
    table = Table(title=f"{title}\ninstruction set {instruction_set()}")
    table.add_column("prompt", justify="right")
    table.add_column("way")
    table.add_column("tokens", justify="right")
    table.add_column("differ", justify="right")
    for row in rows:
        table.add_row(str(row.length), row.way, str(row.tokens), str(row.differing))
    Console().print(table)
