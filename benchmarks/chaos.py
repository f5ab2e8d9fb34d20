"""What faults cost: servers of every role are killed, stopped and cut off under running streams.

python -m benchmarks.chaos --minutes 30, or make chaos MINUTES=30: two targets, two drafts and two
orchestrators, around simulated models, each behind a wire. Every fault strikes every server equally
often, in a random order, one at a time, while the other one of its role is whole. It prints what
the clients saw: texts that differ, streams that failed, and the longest time without a token.
"""

import argparse
import asyncio
import contextlib
import itertools
import random
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Coroutine, Iterator, Sequence
from pathlib import Path

from rich.console import Console

from benchmarks.chaos_report import Seen, draw_memory, say, say_memory, say_worst
from benchmarks.chaos_servers import ENDS, OF_PROCESSES, Fault, Server, servers
from paceline.client import Client
from paceline.errors import PacelineError
from paceline.protocol.generation import GenerateRequest, Speculation

TARGET = "simulated:step_ms={step_ms},token_ms=0.05"
DRAFT = "simulated:step_ms=1,acceptance=0.8"
ROLES = ("target", "draft", "orchestrator")
REQUESTS = 12
OF_WIRES = tuple(fault for fault in Fault if fault not in OF_PROCESSES)
FAULT_SECONDS = 2.5
"""How long a server stands still, or is cut off."""
FOUND_SECONDS = 0.5
"""Those that look for a server which has come back have so long to find it."""
LOOK_SECONDS = 0.02
PAUSE_SECONDS = 0.7
"""Between the end of a fault and the next one, and at least from one to the next."""


def request(number: int, tokens: int) -> GenerateRequest:
    """One of the requests, always the same."""
    return GenerateRequest(
        f"request {number % REQUESTS}",
        max_tokens=tokens,
        ignore_eos=True,
        seed=number % REQUESTS,
        speculation=Speculation.AUTO if number % 4 else Speculation.OFF,
    )


async def stream(
    client: Client, asked: GenerateRequest, expected: tuple[int, ...], seen: Seen
) -> None:
    """One stream, looked at as its client sees it."""
    tokens: list[int] = []
    last = time.time()  # as logs have it
    generation = client.generate(asked, timeout=120.0)
    try:
        async for delta in generation:
            now = time.time()
            name = generation.started.request_id[:8] if generation.started else ""
            seen.gaps.add(last, now, f"{name} ({asked.prompt})")
            last = now
            tokens += [token.id for token in delta.tokens]
    except PacelineError as error:
        seen.failures[f"{type(error).__name__}: {error}"[:160]] += 1
        return
    finally:
        seen.streams += 1
    seen.differing += tuple(tokens) != expected


async def stream_on(
    client: Client, first: int, tokens: int, expected: list[tuple[int, ...]], seen: Seen
) -> None:
    """One stream after another."""
    for number in itertools.count(first):
        if seen.ends.is_set():
            return
        await stream(client, request(number, tokens), expected[number % REQUESTS], seen)


def wheel(drawn: random.Random, only: Sequence[str] = ()) -> Iterator[tuple[str, int, Fault]]:
    """Who has which fault: everyone twice all that processes have and one that wires have, in turn.

    only: names of faults, as the table has them; all, unless given.
    """
    everyone = list(itertools.product(ROLES, (0, 1)))
    for of_wire in itertools.cycle(OF_WIRES):
        faults = [(*who, fault) for who in everyone for fault in (*OF_PROCESSES * 2, of_wire)]
        some = [one for one in faults if not only or f"{one[0]}: {one[2].value}" in only]
        yield from drawn.sample(some, len(some))


async def strike(
    made: dict[str, list[Server]],
    seen: Seen,
    minutes: float,
    drawn: random.Random,
    only: Sequence[str],
) -> Counter[tuple[str, Fault]]:
    """Have faults for so long; returns how many of each.

    In the second half no first server of a role is ended: memory is measured of those.
    """
    began, struck = time.monotonic(), Counter[tuple[str, Fault]]()
    recovering: dict[str, asyncio.Task[None]] = {}
    for role, drawn_index, fault in wheel(drawn, only):
        passed = time.monotonic() - began
        if passed > 60 * minutes:
            break
        index = 1 if passed > 30 * minutes and fault in ENDS else drawn_index
        if role in recovering:
            await recovering.pop(role)
        seen.gaps.begin(f"{role}: {fault.value}")
        suffering = made[role][index].suffer(fault, FAULT_SECONDS)
        recovering[role] = asyncio.create_task(_recovers(suffering, made[role][index].name, seen))
        struck[role, fault] += 1
        await asyncio.sleep(drawn.uniform(1.0, 2.0) * PAUSE_SECONDS)
        if fault not in ENDS:
            await recovering.pop(role)
            await asyncio.sleep(PAUSE_SECONDS)
    await asyncio.gather(*recovering.values())
    return struck


async def _recovers(suffering: Coroutine[None, None, None], name: str, seen: Seen) -> None:
    """Note when the server is whole again, and when those who look for it have had time."""
    await suffering
    seen.gaps.note(f"{name} serves")
    await asyncio.sleep(FOUND_SECONDS)


async def be_late(seen: Seen) -> None:
    """Measure how late the clients' own event loop is: so much of a stall may be theirs."""
    while True:
        began = time.monotonic()
        await asyncio.sleep(LOOK_SECONDS)
        seen.late_seconds = max(seen.late_seconds, time.monotonic() - began - LOOK_SECONDS)


async def measure(made: dict[str, list[Server]]) -> None:
    """Look at the memory of all processes, each second."""
    while True:
        for server in itertools.chain.from_iterable(made.values()):
            server.measure(time.monotonic())
        await asyncio.sleep(1.0)


async def left_over(made: dict[str, list[Server]]) -> tuple[int, int]:
    """Sessions and pages held by drafts and targets once no stream runs; a moment is allowed."""
    some = [*made["target"], *made["draft"]]
    found = [(0, 0)]
    for _ in range(50):
        found = [await one.left_over() for one in some]
        if not any(map(any, found)):
            break
        await asyncio.sleep(0.1)
    return sum(sessions for sessions, _ in found), sum(pages for _, pages in found)


async def run(options: argparse.Namespace) -> bool:
    """Have faults, and say what came of them; returns whether nothing was lost."""
    console, drawn, seen = Console(), random.Random(options.seed), Seen()  # noqa: S311  no secret
    with contextlib.ExitStack() as stack:
        temporary = tempfile.TemporaryDirectory(prefix="paceline-")
        folder = options.folder or stack.enter_context(temporary)
        console.print(f"seed {options.seed}", highlight=False)
        target = TARGET.format(step_ms=options.step_ms)
        async with servers(Path(folder), target, DRAFT) as made:
            addresses = ",".join(one.wire.address for one in made["orchestrator"])
            async with Client(addresses) as client:
                asked = [request(number, options.tokens) for number in range(REQUESTS)]
                alone = await asyncio.gather(*(client.generate(one).result() for one in asked))
                expected = [one.token_ids for one in alone]
                measuring = [asyncio.create_task(one) for one in (measure(made), be_late(seen))]
                streams = [
                    asyncio.create_task(stream_on(client, first, options.tokens, expected, seen))
                    for first in range(options.streams)
                ]
                struck = await strike(made, seen, options.minutes, drawn, options.only)
                halfway = time.monotonic() - 30 * options.minutes
                seen.ends.set()
                await asyncio.gather(*streams)
            sessions, pages = await left_over(made)
            for one in measuring:
                one.cancel()
            say(console, struck, seen)
            console.print(f"left over: {sessions} sessions, {pages} pages of KV")
            say_memory(console, made, halfway)
            say_worst(seen, Path(folder))
            draw_memory(options.plot, made, halfway)
    return not (seen.differing or seen.failures or sessions or pages)


async def ended_in_order(whole: Coroutine[None, None, bool]) -> bool:
    """Have SIGTERM do what Ctrl-C does: no server is left behind."""
    task = asyncio.ensure_future(whole)
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    return await task


def main() -> None:
    """Parse the command line and run; exit status 1 where something was lost."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--streams", type=int, default=10)
    parser.add_argument("--tokens", type=int, default=300)
    parser.add_argument("--step-ms", type=float, default=20.0)
    parser.add_argument("--only", nargs="*", default=[], help="Faults, as 'target: stop'.")
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(10**6))
    parser.add_argument("--plot", type=Path, default=Path("chaos.png"), help="Memory.")
    parser.add_argument("--folder", help="Where the servers log, to be kept.")
    try:
        whole = asyncio.run(ended_in_order(run(parser.parse_args())))
    except asyncio.CancelledError:
        sys.exit(128 + signal.SIGTERM)
    sys.exit(not whole)


if __name__ == "__main__":
    main()
