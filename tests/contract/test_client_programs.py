"""The client where programs have it: forked, in several event loops, in a running one, in threads.

Each program is a process of its own, as it would be; the servers are here.
"""

import asyncio
import contextlib
import gc
import os
import signal
import sys
import textwrap
from collections.abc import AsyncIterator

import pytest

from paceline.client import Client, SyncClient
from paceline.errors import Cancelled
from paceline.protocol.generation import GenerateRequest
from tests import servers

SECONDS = 60.0
LONG = GenerateRequest("x", max_tokens=4000, ignore_eos=True)
BEGINNING = """
import asyncio, os, sys, threading
from paceline.client import Client, SyncClient
from paceline.errors import FailedPrecondition
from paceline.protocol.generation import GenerateRequest

address = sys.argv[1]
client = SyncClient(address)  # at module level, before anything forks
LONG = GenerateRequest("x", max_tokens=4000, ignore_eos=True)

def text(n=8):
    request = GenerateRequest("x", max_tokens=n, seed=1, ignore_eos=True)
    return client.generate(request).result().text

def in_a_child(work):
    if (child := os.fork()) == 0:
        try:
            work()
        except BaseException as error:
            print(f"{type(error).__name__}: {error}", flush=True)
            os._exit(1)
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
"""


@pytest.fixture
async def serving() -> AsyncIterator[tuple[Client, servers.Server]]:
    async with (
        servers.target("simulated:step_ms=5") as target,
        servers.orchestrator([target.address], []) as client,
    ):
        yield client, target


async def start(
    program: str, address: str, beginning: str = BEGINNING
) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        sys.executable,
        "-u",  # a child that ends at once loses what it has printed into a buffer
        "-c",
        beginning + textwrap.dedent(program),
        address,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env={**os.environ, "PYTHONWARNINGS": "error"},
    )


async def said(program: str, address: str) -> str:
    """What a program prints; it must end well, and by itself."""
    process = await start(program, address)
    try:
        out, err = await asyncio.wait_for(process.communicate(b""), SECONDS)
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
    assert process.returncode == 0, (out.decode(), err.decode())
    assert "Traceback" not in err.decode(), err.decode()
    return out.decode()


FORKS = {
    "made before, first used after": """
        assert in_a_child(lambda: print(len(text()))) == 0
    """,
    "used before and after, in parent and children": """
        first = text()
        for _ in range(3):
            assert in_a_child(lambda: print(text() == first)) == 0
            assert text() == first
    """,
    "the async one, used in a loop that has ended": """
        other = Client(address)
        found = asyncio.run(other.models())
        assert in_a_child(lambda: print(asyncio.run(other.models()) == found)) == 0
        assert asyncio.run(other.models()) == found
    """,
    "the async one, in a loop that runs": """
        other = Client(address)
        async def main():
            found = await other.models()
            await other.generate("x").result()
            assert in_a_child(lambda: print(text() != "")) == 0
            assert await other.models() == found
        asyncio.run(main())
    """,
    "after an error that is kept": """
        try:
            client.generate(GenerateRequest("x", max_tokens=10**9)).result()
        except Exception as error:
            kept = error
        assert in_a_child(lambda: print(text() != "")) == 0
    """,
    "children of children": """
        text()
        assert in_a_child(lambda: (text(), in_a_child(lambda: print(text() != "")))) == 0
    """,
}


@pytest.mark.parametrize("how", FORKS)
async def test_a_client_works_on_both_sides_of_a_fork(
    serving: tuple[Client, servers.Server], how: str
) -> None:
    out = await said(FORKS[how], serving[0].address)
    assert out
    assert "False" not in out


async def test_a_child_of_a_process_that_was_streaming_says_that_it_cannot(
    serving: tuple[Client, servers.Server],
) -> None:
    """Not by hanging, and the parent's stream goes on. gRPC's own state may end it before."""
    program = """
        deltas = iter(client.generate(GenerateRequest("x", max_tokens=200, ignore_eos=True)))
        next(deltas)
        assert in_a_child(text) != 0
        assert in_a_child(lambda: asyncio.run(Client(address).models())) != 0
        print("\\nrest", sum(1 for _ in deltas))
    """
    out, _, rest = (await said(program, serving[0].address)).partition("\nrest ")
    told = "FailedPrecondition: this process was forked while a stream of its parent was running"
    assert all(line.startswith(told) for line in out.splitlines() if line)
    assert int(rest) > 100


async def test_loops_one_after_another_and_beside_each_other_have_each_a_connection(
    serving: tuple[Client, servers.Server],
) -> None:
    program = """
        other = Client(address)
        async def ask():
            return (await other.generate(GenerateRequest("x", max_tokens=4, seed=1)).result()).text
        texts = [asyncio.run(ask()) for _ in range(3)]
        threads = [threading.Thread(target=lambda: texts.append(asyncio.run(ask()))) for _ in "ab"]
        [thread.start() for thread in threads]
        [thread.join() for thread in threads]
        print(len(set(texts)), len(texts), len(other._connections._of_loop) <= 2)
    """
    assert await said(program, serving[0].address) == "1 5 True\n"


async def test_the_client_without_async_works_inside_a_running_loop_and_in_threads(
    serving: tuple[Client, servers.Server],
) -> None:
    program = """
        async def cell():
            threads = [asyncio.to_thread(text) for _ in range(4)]
            return {text(), *await asyncio.gather(*threads), "".join(
                delta.text for delta in client.generate(
                    GenerateRequest("x", max_tokens=8, seed=1, ignore_eos=True)))}
        print(len(asyncio.run(cell())))
    """
    assert await said(program, serving[0].address) == "1\n"


@pytest.mark.parametrize("held", ["kept = deltas", "del deltas", "client.close()", "text()"])
async def test_a_program_that_leaves_a_stream_ends_and_the_stream_with_it(
    serving: tuple[Client, servers.Server], held: str
) -> None:
    program = f"""
        deltas = iter(client.generate(LONG))
        print(len(next(deltas).tokens) > 0)
        {held}
    """
    assert await said(program, serving[0].address) == "True\n"
    await servers.nothing_is_left(serving[1])


@pytest.mark.parametrize("work", ["list(client.generate(LONG))", "client.generate(LONG).result()"])
async def test_ctrl_c_ends_a_stream_and_leaves_the_client_usable(
    serving: tuple[Client, servers.Server], work: str
) -> None:
    program = f"""
        try:
            {work}
        except KeyboardInterrupt:
            print("stopped", flush=True)
        print(len(text()) > 0, flush=True)
        sys.stdin.read()
    """
    client, target = serving
    process = await start(program, client.address)
    assert process.stdout is not None
    await servers.eventually(lambda: streams(client, 1))
    process.send_signal(signal.SIGINT)
    assert await process.stdout.readline() == b"stopped\n"
    assert await process.stdout.readline() == b"True\n"
    await servers.nothing_is_left(target)
    await servers.eventually(lambda: streams(client, 0))
    out, err = await asyncio.wait_for(process.communicate(b""), SECONDS)
    assert (out, err, process.returncode) == (b"", b"", 0)


async def streams(client: Client, count: int) -> bool:
    return (await client.status()).totals.running == count


async def test_leaving_a_stream_in_any_way_cancels_it(
    serving: tuple[Client, servers.Server],
) -> None:
    client, target = serving

    def leave() -> None:
        with SyncClient(client.address) as sync:
            for delta in sync.generate(LONG):
                assert delta.tokens
                break
            closed = iter(sync.generate(LONG))
            next(closed)
            closed.close()
            collected = [iter(sync.generate(LONG))]
            next(collected[0])
            collected.append(collected)  # type: ignore[arg-type]
            del collected
            gc.collect()
            cancelled = sync.generate(LONG)
            deltas = iter(cancelled)
            next(deltas)
            cancelled.cancel()
            with pytest.raises(Cancelled, match="was cancelled, or its client closed"):
                list(deltas)
            assert sync.generate("x").result().text

    await asyncio.to_thread(leave)
    await servers.nothing_is_left(target)


async def test_who_waits_hears_that_another_thread_closes_the_client(
    serving: tuple[Client, servers.Server],
) -> None:
    client, target = serving
    sync = SyncClient(client.address)
    waiting = asyncio.create_task(asyncio.to_thread(sync.generate(LONG).result))
    await servers.eventually(lambda: streams(client, 1))
    await asyncio.to_thread(sync.close)
    with pytest.raises(Cancelled):
        await waiting
    assert await asyncio.to_thread(sync.models) == await client.models()
    await asyncio.to_thread(sync.close)
    await servers.nothing_is_left(target)


OTHER_LOOP = (
    "FailedPrecondition: a stream is read in the event loop that it was begun in, and this is "
    "another one: read all of it within one asyncio.run, or use SyncClient"
)
TWO_READERS = (
    "FailedPrecondition: a stream is read in one place at a time, and another task or thread waits "
    "for it"
)
NOT_WHOLE = (
    "Cancelled: the stream has ended before its output was whole: it failed, was closed, or a wait "
    "for it was cancelled, as by a timeout; ask generate again"
)
READING = """
async def one(deltas):
    return await anext(deltas)

async def rest(deltas):
    return [delta async for delta in deltas]

def told(work):
    try:
        print("got", type(work()).__name__)
    except Exception as error:
        print(f"{type(error).__name__}: {error}")

other = Client(address)
generation = other.generate(LONG)
deltas = aiter(generation)
"""
CARRIED_OVER = {
    "from one run to the next": (
        "asyncio.run(one(deltas)); told(lambda: asyncio.run(rest(deltas)))",
        OTHER_LOOP,
    ),
    "between loops that both are there": (
        """
        first, second = asyncio.new_event_loop(), asyncio.new_event_loop()
        first.run_until_complete(one(deltas))
        told(lambda: second.run_until_complete(rest(deltas)))
        first.run_until_complete(deltas.aclose())
        first.run_until_complete(other.close())
        first.close(), second.close()
        """,
        OTHER_LOOP,
    ),
    "to a second task": (
        """
        async def main():
            print((await asyncio.gather(one(deltas), told_of(), return_exceptions=True))[1])
            await deltas.aclose()
        async def told_of():
            try:
                await one(deltas)
            except Exception as error:
                return f"{type(error).__name__}: {error}"
        asyncio.run(main())
        """,
        TWO_READERS,
    ),
    "past a wait that was cancelled": (
        """
        async def main():
            waiting = asyncio.ensure_future(one(deltas))
            await asyncio.sleep(0)
            waiting.cancel()
            await asyncio.wait({waiting})
            return await rest(deltas)
        told(lambda: asyncio.run(main()))
        """,
        NOT_WHOLE,
    ),
    "past the client's end": (
        """
        deltas = iter(client.generate(LONG))
        next(deltas)
        client.close()
        told(lambda: list(deltas))
        told(lambda: list(deltas))
        """,
        f"Cancelled: the client was closed meanwhile\n{NOT_WHOLE}",
    ),
    "past its end": (
        """
        deltas = iter(client.generate("x", max_tokens=2))
        told(lambda: list(deltas))
        told(lambda: list(deltas))
        """,
        "got list\ngot list",
    ),
}


@pytest.mark.parametrize("how", CARRIED_OVER)
async def test_a_stream_that_is_carried_over_says_so_in_place_of_ending_early(
    serving: tuple[Client, servers.Server], how: str
) -> None:
    program, expected = CARRIED_OVER[how]
    assert await said(READING + textwrap.dedent(program), serving[0].address) == f"{expected}\n"


async def test_two_threads_that_read_one_stream_are_told(
    serving: tuple[Client, servers.Server],
) -> None:
    program = """
        deltas = iter(client.generate(LONG))
        next(deltas)
        found = []
        def read():
            try:
                for _ in range(400):
                    next(deltas)
            except Exception as error:
                found.append(f"{type(error).__name__}: {error}")
        threads = [threading.Thread(target=read) for _ in range(4)]
        [thread.start() for thread in threads]
        [thread.join() for thread in threads]
        print("\\n".join(set(found)))
    """
    assert await said(program, serving[0].address) == f"{TWO_READERS}\n"
