"""Clients of orchestrators that share a port, one at each.

A connection reaches whichever the system gives it to. So connections are opened, and closed again
where their process has one, until each has one.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Mapping, Sequence

import psutil

from paceline.client import Client
from paceline.errors import Unavailable

SECONDS = 60.0
"""All processes take connections after so long."""
_PAUSE_SECONDS = 0.05


@contextlib.asynccontextmanager
async def one_at_each(
    port: int, pids: Sequence[int]
) -> AsyncIterator[Mapping[psutil.Process, Client]]:
    """Clients by the process that their connection reached, in the order of `pids`.

    A connection that breaks, or is older than a server lets it be, is replaced by one to any of
    the processes: `counts` tells. Raises TimeoutError where one process is never reached.
    """
    processes = [psutil.Process(pid) for pid in pids]
    async with contextlib.AsyncExitStack() as stack:
        found: dict[psutil.Process, Client] = {}
        async with asyncio.timeout(SECONDS):
            while len(found) < len(processes):
                client = await stack.enter_async_context(Client(f"127.0.0.1:{port}"))
                reached = await _reached(client, port, processes)
                if reached is None or reached in found:
                    await client.close()
                else:
                    found[reached] = client
        yield {one: found[one] for one in processes}


def counts(port: int, processes: Sequence[psutil.Process]) -> list[int]:
    """Connections at the port that each process has."""
    return [len(_connections(port, one)) for one in processes]


async def _reached(
    client: Client, port: int, processes: Sequence[psutil.Process]
) -> psutil.Process | None:
    """Which process a client's first call went to; None where nobody took it."""
    before = [_connections(port, one) for one in processes]
    try:
        await client.models()
    except Unavailable:  # none listens yet
        await asyncio.sleep(_PAUSE_SECONDS)
        return None
    for process, known in zip(processes, before, strict=True):
        if _connections(port, process) - known:
            return process
    return None


def _connections(port: int, process: psutil.Process) -> set[int]:
    """Ports of the other ends."""
    found = process.net_connections("tcp")
    return {one.raddr.port for one in found if one.raddr and one.laddr.port == port}
