"""A wire that takes its time: bytes between two unix sockets, each way delayed by half."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

_CHUNK = 65536
_TIMER_SECONDS = 0.001


@contextlib.asynccontextmanager
async def delayed(listen: Path, forward: Path, round_trip_seconds: float) -> AsyncIterator[None]:
    """Serve at `listen` what `forward` serves, a round trip later, while the context lasts."""
    connections: set[asyncio.Task[None]] = set()

    async def connect(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.ensure_future(_join(reader, writer))
        connections.add(task)
        task.add_done_callback(connections.discard)
        await asyncio.wait({task})

    async def _join(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            there, back = await asyncio.open_unix_connection(str(forward))
        except OSError:  # nobody listens yet: who connected finds the wire closed, and tries again
            writer.close()
            return
        half = round_trip_seconds / 2
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(_pass(reader, back, half))
                tasks.create_task(_pass(there, writer, half))
        finally:
            for end in (back, writer):
                end.close()
                with contextlib.suppress(OSError):
                    await end.wait_closed()

    server = await asyncio.start_unix_server(connect, str(listen))
    try:
        yield
    finally:
        server.close()
        for task in connections:
            task.cancel()
        await asyncio.gather(*connections, return_exceptions=True)


async def _pass(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, seconds: float) -> None:
    """Bytes in the order they came, each so many seconds late; many may be under way."""
    now = asyncio.get_running_loop().time
    under_way: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue()

    async def receive() -> None:
        data = b"..."
        while data:
            data = await reader.read(_CHUNK)
            under_way.put_nowait((now() + seconds, data))

    async def deliver() -> None:
        while True:
            due, data = await under_way.get()
            while (left := due - now()) > 0:  # noqa: ASYNC110 - time is what it waits for
                # Sleeping takes up to a millisecond more than it is told to.
                await asyncio.sleep(max(0.0, left - _TIMER_SECONDS))
            if not data:
                writer.write_eof()
                return
            writer.write(data)
            await writer.drain()

    try:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(receive())
            tasks.create_task(deliver())
    except* OSError:  # an end that is gone has nothing more to say, nor to hear
        writer.close()
