"""A draft that is far, stopped or killed under running streams, or none, against the target alone.

python -m benchmarks.lost_draft [--vllm vllm-env/bin/python] [--max-tokens 96]: in each case every
prompt off, auto, auto, off. Prints the ratios of tokens per second, and how many outputs differ.
"""

import argparse
import asyncio
import contextlib
import signal
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

from rich.console import Console
from rich.progress import Progress

from paceline.catalog import DEFAULT_DRAFT, DEFAULT_TARGET
from paceline.client import Client
from paceline.protocol.generation import Speculation
from paceline_tools.bench.delayed_wire import delayed
from paceline_tools.bench.report import ratio
from paceline_tools.bench.samples import PROMPTS, Prompt, Sample, choose, read_prompts
from paceline_tools.bench.variants import Served
from paceline_tools.local_servers import Servers, answers, running
from paceline_tools.other_python import vllm_python
from paceline_tools.server_commands import (
    UNWATCHED,
    draft_command,
    orchestrator_command,
    target_command,
)

PORT = 7890
AWAY_SECONDS = 0.020
LOST_AFTER_SECONDS = 1.0
"""Into a stream, when its draft is stopped or killed."""
USED_STREAMS = 40
"""At most, until a draft that is back is in use."""


class Deployment:
    """A target, and two orchestrators: by one the draft is at hand, by the other far."""

    def __init__(self, options: argparse.Namespace, folder: Path) -> None:
        """Begin with nothing started."""
        self._options = options
        self._target, self._draft = folder / "target", folder / "draft"
        self._far = folder / "far"
        self.clients = {
            "at hand": Client(f"127.0.0.1:{PORT}"),
            "far": Client(f"127.0.0.1:{PORT + 1}"),
        }

    @contextlib.asynccontextmanager
    async def servers(self) -> AsyncIterator[None]:
        """Target and orchestrators, ready."""
        flags = [*UNWATCHED, f"--dtype={self._options.dtype}", f"--threads={self._options.threads}"]
        vllm = self._options.vllm
        engine = ["--engine=vllm"] if vllm else []
        commands = {
            "target": target_command(self._options.target, self._target, [*flags, *engine]),
            "near": orchestrator_command(PORT, self._target, self._draft, 4, UNWATCHED),
            "far": orchestrator_command(PORT + 1, self._target, self._far, 4, UNWATCHED),
        }

        async def ready() -> None:
            await answers(PORT, drafts=0)
            await answers(PORT + 1, drafts=0)

        pythons = {"target": vllm_python(vllm)} if vllm else {}
        async with contextlib.AsyncExitStack() as stack:
            await stack.enter_async_context(running(commands, ready, pythons=pythons))
            await stack.enter_async_context(delayed(self._far, self._draft, AWAY_SECONDS))
            for client in self.clients.values():
                await stack.enter_async_context(client)
            yield

    @contextlib.asynccontextmanager
    async def draft(self) -> AsyncIterator[Servers]:
        """A draft, ready; it may be killed."""
        flags = [*UNWATCHED, f"--threads={self._options.threads}"]
        command = draft_command(self._options.draft, "hybrid", self._draft, flags)

        async def ready() -> None:
            await answers(PORT, drafts=1)

        async with running({"draft": command}, ready, serves=lambda _: True) as servers:
            yield servers

    async def sample(self, prompt: Prompt, mode: Speculation, by: str = "at hand") -> Sample:
        """One output."""
        variant = Served(mode.value, self.clients[by], mode, 0.0)
        return await variant.run(prompt, self._options.max_tokens)


class Case:
    """What happens to the draft, and what was seen."""

    def __init__(self, name: str, deployment: Deployment) -> None:
        """Begin with nothing seen."""
        self.name = name
        self._deployment = deployment
        self.off: list[Sample] = []
        self.auto: list[Sample] = []

    async def measure(self, prompt: Prompt, servers: Servers | None = None) -> None:
        """The prompt off, auto, auto, off; the draft's process is lost under each auto."""
        for mode in (Speculation.OFF, Speculation.AUTO, Speculation.AUTO, Speculation.OFF):
            if mode == Speculation.OFF:
                self.off.append(await self._deployment.sample(prompt, mode))
            else:
                self.auto.append(await self._auto(prompt, servers))

    async def _auto(self, prompt: Prompt, servers: Servers | None) -> Sample:
        by = "far" if self.name.startswith("far") else "at hand"
        task = asyncio.create_task(self._deployment.sample(prompt, Speculation.AUTO, by))
        if servers is None:
            return await task
        [draft] = servers.processes
        await asyncio.sleep(LOST_AFTER_SECONDS)
        draft.process.send_signal(signal.SIGSTOP)
        try:
            return await task
        finally:
            draft.process.send_signal(signal.SIGCONT)
            await until_used(self._deployment, prompt)

    async def killed(self, prompt: Prompt) -> None:
        """The prompt off, then auto with a draft of its own that is killed, then off."""
        self.off.append(await self._deployment.sample(prompt, Speculation.OFF))
        async with self._deployment.draft() as servers:
            await until_used(self._deployment, prompt)
            task = asyncio.create_task(self._deployment.sample(prompt, Speculation.AUTO))
            await asyncio.sleep(LOST_AFTER_SECONDS)
            [draft] = servers.processes
            draft.process.kill()
            self.auto.append(await task)
        self.off.append(await self._deployment.sample(prompt, Speculation.OFF))

    def report(self, console: Console) -> None:
        """The ratio, and outputs that differ."""
        found, right = ratio(self.auto, self.off), {one.prompt: one.token_ids for one in self.off}
        differing = sum(one.token_ids != right[one.prompt] for one in self.auto)
        drafted = sum(sum(one.accepted) for one in self.auto)
        rate = sum(one.tokens_per_second for one in self.off) / len(self.off)
        console.print(
            f"{self.name:34} {found.ratio:.2f} ({found.low:.2f} to {found.high:.2f}) of "
            f"{rate:.1f} tokens/s; {drafted} draft tokens accepted; "
            f"{differing} of {len(self.auto)} outputs differ",
            soft_wrap=True,
        )


async def until_used(deployment: Deployment, prompt: Prompt) -> None:
    """Ask until a stream has draft tokens again."""
    for _ in range(USED_STREAMS):
        if sum((await deployment.sample(prompt, Speculation.AUTO)).accepted):
            return


async def run(options: argparse.Namespace, console: Console) -> None:
    """All cases."""
    prompts = choose(read_prompts(PROMPTS), options.kinds)[: options.prompts]
    with tempfile.TemporaryDirectory(prefix="paceline-") as name:
        deployment = Deployment(options, Path(name))
        names = ("at hand", "far by 20 ms", "stopped under each stream", "none", "killed")
        near, far, stopped, none, killed = (Case(name, deployment) for name in names)
        async with deployment.servers():
            async with deployment.draft() as servers:
                await until_used(deployment, prompts[0])  # to warm up
                for case in (near, far):
                    for prompt in _tracked(prompts, case, console):
                        await case.measure(prompt)
                    case.report(console)
                for prompt in _tracked(prompts, stopped, console):
                    await stopped.measure(prompt, servers)
                stopped.report(console)
            for prompt in _tracked(prompts, none, console):
                await none.measure(prompt)
            none.report(console)
            for prompt in _tracked(prompts, killed, console):
                await killed.killed(prompt)
            killed.report(console)


def _tracked(prompts: list[Prompt], case: Case, console: Console) -> Iterator[Prompt]:
    with Progress(console=console, transient=True) as progress:
        yield from progress.track(prompts, description=f"draft {case.name}")


def main() -> None:
    """Run it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--target", default=DEFAULT_TARGET)
    parser.add_argument("--draft", default=DEFAULT_DRAFT)
    parser.add_argument("--vllm", type=Path, help="Python of an environment with vLLM")
    parser.add_argument("--dtype", default="bfloat16")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--kinds", action="append", default=[])
    parser.add_argument("--prompts", type=int, default=4)
    parser.add_argument("--max-tokens", type=int, default=96)
    asyncio.run(run(parser.parse_args(), Console()))


if __name__ == "__main__":
    main()
