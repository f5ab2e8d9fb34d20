"""The alerts for a draft gone bad, seen to fire and to go away: real servers, a real Prometheus.

python -m benchmarks.live_alerts: a simulated target, and a draft that is always wrong, under
traffic, until both alerts for it fire; then a good draft takes its place, until both are gone. Each
change is printed with the minutes since traffic began. The rules are those of
deploy/prometheus/alerts.yaml, with their windows as they are; --faster 6 makes them all as much
shorter, to try it.
"""

import argparse
import asyncio
import contextlib
import tempfile
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from benchmarks.prometheus import Prometheus, prometheus
from benchmarks.simulated import ROOM
from paceline.client import Client
from paceline.errors import DeadlineExceeded
from paceline.protocol.generation import GenerateRequest
from paceline.protocol.sampling import SamplingParams
from paceline_tools.local_servers import answers, running
from paceline_tools.server_commands import (
    THROWN_AWAY,
    draft_command,
    orchestrator_command,
    target_command,
)

PORT = 7900
METRICS = {"orchestrator": 7901, "target": 7902, "draft": 7903}
PROMETHEUS_PORT = 7904
TARGET = "simulated:step_ms=20"
BAD, GOOD = "simulated:step_ms=2,acceptance=0", "simulated:step_ms=2,acceptance=0.85"
STREAMS, TOKENS = 4, 200
"""Traffic: streams at once, and tokens of each."""
LOOK_SECONDS = 0.5
MAX_WAIT_SECONDS = 1500.0
"""How long at most until the alerts fire, and again until they are gone; less when faster."""
DRAFT_BAD, DRAFT_BENCHED = "PacelineDraftBad draft", "PacelineDraftBenched draft"
RATE = (
    "sum(rate(paceline_spec_decode_num_accepted_tokens_total[{0}]))"
    " / sum(rate(paceline_spec_decode_num_verified_tokens_total[{0}]))"
)
ACCEPTANCE = 0.2
"""Below it the alert takes draft tokens for mostly wrong."""
STATE_STYLES = {"pending": "yellow", "firing": "bold red", "gone": "green"}


@dataclass
class Seen:
    """What was seen so far."""

    alerts: dict[str, str] = field(default_factory=dict)
    benched: bool = False
    acceptance: float | None = None

    @property
    def mostly_wrong(self) -> bool | None:
        """Whether few draft tokens are right; None while none was verified of late."""
        return None if self.acceptance is None else self.acceptance < ACCEPTANCE

    @property
    def firing(self) -> set[str]:
        """The alerts that fire."""
        return {name for name, state in self.alerts.items() if state == "firing"}


class Watch:
    """Looks at Prometheus again and again, and prints what changes."""

    def __init__(self, found: Prometheus, console: Console, factor: int) -> None:
        """Time counts from now."""
        self._prometheus = found
        self._console = console
        self._began = time.monotonic()
        self._seen = Seen()
        self._mostly_wrong: bool | None = None
        self._rate = RATE.format(f"{60_000 // factor}ms")
        self._max_wait = MAX_WAIT_SECONDS / factor + 60.0

    def say(self, what: str) -> None:
        """Print a line of the timeline."""
        minutes, seconds = divmod(int(time.monotonic() - self._began), 60)
        self._console.print(f"{minutes:3d}:{seconds:02d}  {what}", highlight=False)

    async def until(self, what: str, condition: Callable[[Seen], bool]) -> None:
        """Look until the condition holds; the bar is the time there is for it.

        Raises DeadlineExceeded when that is over.
        """
        columns = (
            TextColumn("[dim]until {task.description}[/]"),
            BarColumn(),
            TimeElapsedColumn(),
            TextColumn("[dim]{task.fields[said]}[/]"),
        )
        hidden = not self._console.is_terminal
        with Progress(*columns, console=self._console, transient=True, disable=hidden) as progress:
            bar = progress.add_task(what, total=self._max_wait, said="")
            while not condition(self._seen):
                await self._look()
                self._advance(progress, bar, what)
                await asyncio.sleep(LOOK_SECONDS)

    def _advance(self, progress: Progress, bar: TaskID, what: str) -> None:
        progress.update(bar, completed=progress.tasks[0].elapsed or 0.0, said=_in_words(self._seen))
        if progress.tasks[0].completed > self._max_wait:
            raise DeadlineExceeded(f"waited {self._max_wait:.0f} s in vain until {what}")

    async def _look(self) -> None:
        rate = await self._prometheus.value(self._rate)
        benched = await self._prometheus.value('paceline_draft_benched{draft="draft"}') == 1.0
        found = Seen(await self._prometheus.alerts(), benched, rate)
        self._say_changes(self._seen, found)
        self._seen = found

    def _say_changes(self, before: Seen, now: Seen) -> None:
        if now.mostly_wrong is not None and now.mostly_wrong is not self._mostly_wrong:
            self._mostly_wrong = now.mostly_wrong
            self.say(f"metrics show it: {now.acceptance:.2f} of draft tokens accepted")
        if now.benched != before.benched:
            self.say("paceline_draft_benched is " + ("1" if now.benched else "0"))
        for name in sorted(before.alerts.keys() | now.alerts.keys()):
            state = now.alerts.get(name, "gone")
            if state != before.alerts.get(name, "gone"):
                self.say(f"{name} is [{STATE_STYLES[state]}]{state}[/]")


def _in_words(seen: Seen) -> str:
    acceptance = "none verified" if seen.acceptance is None else f"{seen.acceptance:.2f} accepted"
    return ", ".join([acceptance, *(f"{name} {state}" for name, state in seen.alerts.items())])


@contextlib.asynccontextmanager
async def served(folder: Path, console: Console) -> AsyncIterator[None]:
    """Target and orchestrator, ready."""
    commands = {
        "target": target_command(TARGET, folder / "target", _flags("target")),
        "orchestrator": orchestrator_command(
            PORT, folder / "target", folder / "draft", 4, [*THROWN_AWAY, _metrics("orchestrator")]
        ),
    }

    async def ready() -> None:
        await answers(PORT, drafts=0)

    async with running(commands, ready):
        yield


@contextlib.asynccontextmanager
async def drafted(model: str, folder: Path, console: Console) -> AsyncIterator[None]:
    """A draft, ready, always at the same address and with the same name."""
    command = draft_command(model, "model", folder / "draft", _flags("draft"))

    async def ready() -> None:
        await answers(PORT, drafts=1)

    async with running({"draft": command}, ready):
        yield


def _flags(server: str) -> list[str]:
    return [*THROWN_AWAY, *ROOM, _metrics(server)]


def _metrics(server: str) -> str:
    return f"--metrics-port={METRICS[server]}"


@contextlib.asynccontextmanager
async def traffic() -> AsyncIterator[None]:
    """So many streams at once, one after the other, while the context lasts."""
    async with Client(f"127.0.0.1:{PORT}") as client, asyncio.TaskGroup() as tasks:
        asking = [tasks.create_task(_ask(client, f"client {index}")) for index in range(STREAMS)]
        try:
            yield
        finally:
            for task in asking:
                task.cancel()


async def _ask(client: Client, name: str) -> None:
    number = 0
    while True:
        number += 1
        request = GenerateRequest(
            f"{name}, question {number}",
            sampling=SamplingParams(temperature=0),
            max_tokens=TOKENS,
            ignore_eos=True,
            seed=1,
        )
        await client.generate(request).result()


async def run(factor: int, console: Console) -> None:
    """The wrong draft, then the good one."""
    with tempfile.TemporaryDirectory(prefix="paceline-") as name:
        folder = Path(name)
        async with (
            served(folder, console),
            prometheus(PROMETHEUS_PORT, METRICS, factor) as found,
            contextlib.AsyncExitStack() as draft,
        ):
            await draft.enter_async_context(drafted(BAD, folder, console))
            async with traffic():
                watch = Watch(found, console, factor)
                watch.say("traffic begins, with a draft that is always wrong")
                wanted = {DRAFT_BAD, DRAFT_BENCHED}
                await watch.until("both alerts fire", lambda seen: wanted <= seen.firing)
                await draft.aclose()
                await draft.enter_async_context(drafted(GOOD, folder, console))
                watch.say("a good draft has taken its place, at the same address")
                await watch.until("both are gone", lambda seen: not wanted & seen.alerts.keys())
                watch.say("done")


def main() -> None:
    """Run it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--faster", type=int, default=1, help="shorten all windows so many times")
    options = parser.parse_args()
    console = Console()
    if options.faster > 1:
        console.print(f"every window and every for: of the rules is {options.faster} times shorter")
    asyncio.run(run(options.faster, console))


if __name__ == "__main__":
    main()
