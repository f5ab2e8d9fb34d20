"""A wire that takes its time: bytes between two unix sockets, each way delayed by half."""

import asyncio
import contextlib
import selectors
import threading
from collections.abc import AsyncIterator, Coroutine
from pathlib import Path
from typing import Any

_CHUNK = 65536
_LEARNING = 0.1


@contextlib.asynccontextmanager
async def delayed(listen: Path, forward: Path, round_trip_seconds: float) -> AsyncIterator[None]:
    """Serve at `listen` what `forward` serves, a round trip later, while the context lasts."""
    # An event loop of its own that keeps time: select takes microseconds, epoll milliseconds.
    loop = asyncio.SelectorEventLoop(selectors.SelectSelector())
    thread = threading.Thread(target=loop.run_forever, name="wire", daemon=True)
    thread.start()
    wire = _Wire(forward, round_trip_seconds / 2)
    try:
        await _on(loop, wire.listen(listen))
        yield
    finally:
        await _on(loop, wire.close())
        loop.call_soon_threadsafe(loop.stop)
        await asyncio.to_thread(thread.join)
        loop.close()


async def _on(loop: asyncio.AbstractEventLoop, main: Coroutine[Any, Any, None]) -> None:
    """Run `main` on another loop, and wait for it."""
    await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(main, loop))


class _Wire:
    """Connections to one socket, passed on to another one."""

    def __init__(self, forward: Path, half_seconds: float) -> None:
        self._forward = forward
        self._half = half_seconds
        self._connections: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None

    async def listen(self, socket: Path) -> None:
        self._server = await asyncio.start_unix_server(self._connect, str(socket))

    async def close(self) -> None:
        if self._server is not None:
            self._server.close()
        for task in self._connections:
            task.cancel()
        await asyncio.gather(*self._connections, return_exceptions=True)

    async def _connect(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.ensure_future(self._join(reader, writer))
        self._connections.add(task)
        task.add_done_callback(self._connections.discard)
        await asyncio.wait({task})

    async def _join(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            there, back = await asyncio.open_unix_connection(str(self._forward))
        except OSError:  # nobody listens yet: who connected finds the wire closed, and tries again
            writer.close()
            return
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(_pass(reader, back, self._half))
                tasks.create_task(_pass(there, writer, self._half))
        finally:
            for end in (back, writer):
                end.close()
                with contextlib.suppress(OSError):
                    await end.wait_closed()


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
        late = 0.0  # what sleeping takes too long here, usually
        while True:
            due, data = await under_way.get()
            await asyncio.sleep(due - late - now())
            late = max(0.0, late + _LEARNING * (now() - due))
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
