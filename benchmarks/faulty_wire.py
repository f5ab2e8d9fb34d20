"""A wire that fails on request: bytes between two addresses, until it closes, stalls or cuts them.

What stalls takes bytes and passes none on, as a network does whose packets vanish: neither end is
told. To the server it is `up`, from it `down`.
"""

import asyncio
import contextlib
import socket
import struct
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

_CHUNK = 65536
_RESET = struct.pack("ii", 1, 0)


@dataclass
class _Direction:
    """One way. left: bytes that still pass before everything is closed; None: any number."""

    passes: asyncio.Event = field(default_factory=asyncio.Event)
    delay_seconds: float = 0.0
    left: int | None = None


class FaultyWire:
    """Connections to an address of this machine, passed on to another one."""

    def __init__(self, forward: str) -> None:
        """Pass on to host:port or unix:/path; belongs to the running event loop."""
        self._forward = forward
        self._up, self._down = _Direction(), _Direction()
        self._ends: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None
        self.address = ""
        self.heal()

    async def listen(self, port: int = 0) -> None:
        """Take connections at a port of 127.0.0.1."""
        self._server = await asyncio.start_server(self._connect, "127.0.0.1", port)
        host, taken = self._server.sockets[0].getsockname()
        self.address = f"{host}:{taken}"

    def heal(self) -> None:
        """Pass everything on, at once, what was held back too."""
        for way in (self._up, self._down):
            way.passes.set()
            way.delay_seconds, way.left = 0.0, None

    def stall(self, *, up: bool = True, down: bool = True) -> None:
        """Pass nothing on in these directions, on connections to come as well."""
        for way, stalls in ((self._up, up), (self._down, down)):
            if stalls:
                way.passes.clear()

    def delay(self, seconds: float) -> None:
        """Pass each piece on so much later, in either direction."""
        self._up.delay_seconds = self._down.delay_seconds = seconds

    def truncate(self, count: int) -> None:
        """Break all connections once so many more bytes have come from the server."""
        self._down.left = count

    def cut(self) -> None:
        """Break all connections there are, by a reset."""
        for end in list(self._ends):
            _reset(end)

    async def close(self) -> None:
        """Take no more, and break what there is."""
        if self._server is not None:
            self._server.close()
        self.cut()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _connect(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.ensure_future(self._join(reader, writer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        await asyncio.wait({task})

    async def _join(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            there, back = await _connected(self._forward)
        except OSError:  # as a machine that is there, and the server is not
            _reset(writer)
            return
        ends = {writer, back}
        self._ends |= ends
        try:
            ways = {
                asyncio.ensure_future(self._pass(reader, back, self._up)),
                asyncio.ensure_future(self._pass(there, writer, self._down)),
            }
            await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
            for way in ways:
                way.cancel()
            await asyncio.gather(*ways, return_exceptions=True)
        finally:
            self._ends -= ends
            for end in ends:
                _reset(end)

    async def _pass(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, way: _Direction
    ) -> None:
        """Bytes, until either end is gone, or as many have passed as may."""
        with contextlib.suppress(OSError):
            while data := await reader.read(_CHUNK):
                await asyncio.sleep(way.delay_seconds)
                await way.passes.wait()
                if way.left is not None:
                    data, over = data[: way.left], len(data) >= way.left
                    way.left -= len(data)
                    if over:
                        way.left = None
                        writer.write(data)
                        self.cut()
                        return
                writer.write(data)
                await writer.drain()
            await way.passes.wait()  # packets that say goodbye vanish, too


async def _connected(address: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    if address.startswith("unix:"):
        return await asyncio.open_unix_connection(address.removeprefix("unix:"))
    host, _, port = address.rpartition(":")
    return await asyncio.open_connection(host, int(port))


def _reset(end: asyncio.StreamWriter) -> None:
    """Close at once, as the system does for a process that was killed."""
    found = end.get_extra_info("socket")
    if found is not None and found.family != socket.AF_UNIX:
        with contextlib.suppress(OSError):
            found.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
    with contextlib.suppress(RuntimeError):
        end.transport.abort()


@contextlib.asynccontextmanager
async def faulty(forward: str, port: int = 0) -> AsyncIterator[FaultyWire]:
    """A wire to host:port or unix:/path, while the context lasts."""
    wire = FaultyWire(forward)
    await wire.listen(port)
    try:
        yield wire
    finally:
        await wire.close()
