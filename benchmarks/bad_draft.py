"""A draft that can only be wrong, and then the good one in its place, on the real pair.

python -m benchmarks.bad_draft: with a draft of random weights, prompts off, auto, auto, off: what
it costs, and when it is given up. Then the good draft starts under the same address: how many
tokens until it is in use.
"""

import argparse
import asyncio
import contextlib
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path

from rich.console import Console
from rich.progress import Progress

from benchmarks.mismatched import mismatched
from paceline.catalog import DEFAULT_DRAFT, DEFAULT_TARGET
from paceline.client import Client
from paceline.engine.torch.model_folder import resolve_model
from paceline.protocol.generation import Speculation
from paceline_tools.bench.report import ratio
from paceline_tools.bench.samples import PROMPTS, Prompt, Sample, read_prompts
from paceline_tools.bench.variants import Served
from paceline_tools.local_servers import answers, running
from paceline_tools.server_commands import (
    UNWATCHED,
    draft_command,
    orchestrator_command,
    target_command,
)

PORT = 7880
MODES = (Speculation.OFF, Speculation.AUTO, Speculation.AUTO, Speculation.OFF)


class Deployment:
    """A target and an orchestrator that stay, and a draft that is replaced."""

    def __init__(self, options: argparse.Namespace, folder: Path, console: Console) -> None:
        """Begin with nothing started."""
        self._options = options
        self._folder = folder
        self._console = console
        self.client = Client(f"127.0.0.1:{PORT}")

    @contextlib.asynccontextmanager
    async def servers(self) -> AsyncIterator[None]:
        """Target and orchestrator, ready."""
        target, draft = self._folder / "target", self._folder / "draft"
        commands = {
            "target": target_command(self._options.target, target, UNWATCHED),
            "orchestrator": orchestrator_command(PORT, target, draft, 4, UNWATCHED),
        }

        async def ready() -> None:
            await answers(PORT, drafts=0)

        async with running(commands, ready), self.client:
            yield

    @contextlib.asynccontextmanager
    async def draft(self, model: str) -> AsyncIterator[None]:
        """A draft, ready, always at the same address."""
        command = draft_command(model, "model", self._folder / "draft", UNWATCHED)

        async def ready() -> None:
            await answers(PORT, drafts=1)

        async with running({"draft": command}, ready):
            yield

    async def sample(self, prompt: Prompt, mode: Speculation) -> Sample:
        """One output."""
        variant = Served(mode.value, self.client, mode, 0.0)
        return await variant.run(prompt, self._options.max_tokens)


async def compare(deployment: Deployment, prompts: list[Prompt], console: Console) -> list[Sample]:
    """Each prompt off, auto, auto, off."""
    with Progress(console=console, transient=True) as progress:
        return [
            await deployment.sample(prompt, mode)
            for prompt in progress.track(prompts, description="a draft that is always wrong")
            for mode in MODES
        ]


async def until_used(deployment: Deployment, prompts: list[Prompt], at_most: int) -> int:
    """Output tokens until most of a stream's tokens are drafted; at_most when that never comes."""
    tokens = 0
    while tokens < at_most:
        for prompt in prompts:
            sample = await deployment.sample(prompt, Speculation.AUTO)
            tokens += len(sample.token_ids)
            if sum(sample.accepted) > len(sample.token_ids) / 2:
                return tokens
    return at_most


async def run(options: argparse.Namespace, console: Console) -> None:
    """Both parts, said in words."""
    prompts = read_prompts(PROMPTS)
    code = [prompt for prompt in prompts if prompt.kind == "code"]
    with tempfile.TemporaryDirectory(prefix="paceline-") as name:
        folder = Path(name)
        wrong = mismatched(resolve_model(options.draft), folder / "wrong")
        deployment = Deployment(options, folder, console)
        async with deployment.servers():
            async with deployment.draft(str(wrong)):
                await deployment.sample(code[0], Speculation.OFF)  # to warm up
                found = await compare(deployment, prompts, console)
            report(found, console)
            async with deployment.draft(options.draft):
                tokens = await until_used(deployment, code, options.bound)
                console.print(f"the good draft is in use after {tokens} output tokens")


def report(found: list[Sample], console: Console) -> None:
    """What the wrong draft cost, and when it was given up."""
    by_mode = {mode: [one for one in found if one.variant == mode.value] for mode in MODES}
    auto = by_mode[Speculation.AUTO]
    cost = ratio(auto, by_mode[Speculation.OFF])
    console.print(f"auto / off: {cost.ratio:.3f} ({cost.low:.3f} to {cost.high:.3f})")
    differing = sum(
        one.token_ids != other.token_ids
        for one, other in zip(auto, by_mode[Speculation.OFF], strict=True)
    )
    console.print(f"{differing} outputs differ")
    rounds = [max(one.verified, default=0) for one in auto]
    console.print(f"rounds that verified a draft token, by output: {rounds}")


def main() -> None:
    """Run it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--target", default=DEFAULT_TARGET)
    parser.add_argument("--draft", default=DEFAULT_DRAFT)
    parser.add_argument("--max-tokens", type=int, default=64)
    parser.add_argument("--bound", type=int, default=4096, help="tokens to look for the good one")
    asyncio.run(run(parser.parse_args(), Console()))


if __name__ == "__main__":
    main()
