"""Real servers in this process, on real sockets."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from prometheus_client import CollectorRegistry

import draft_server.__main__ as draft_main
import orchestrator.__main__ as orchestrator_main
from draft_server.service import DraftServer
from draft_server.settings import DraftSettings
from orchestrator.settings import OrchestratorSettings
from paceline.client import Client
from paceline.engine.interfaces import StartedEngine
from paceline.engine.start import start
from paceline.errors import DeadlineExceeded
from paceline.protocol.status import Role
from paceline.rpc.doors import OPEN, doors_of
from paceline.rpc.server import serving
from paceline.rpc.tokens import CallerTokens
from target_server.service import TargetServer
from target_server.settings import TargetSettings

ANY_PORT = "127.0.0.1:0"
WAIT_SECONDS = 60.0
EXACT: dict[str, Any] = {"dtype": "float64", "threads": 1}
TARGET, DRAFT = ("paceline.v1.TargetService",), ("paceline.v1.DraftService",)


@dataclass
class Server:
    """A draft or target server that runs."""

    address: str
    started: StartedEngine
    registry: CollectorRegistry


@asynccontextmanager
async def target(folder: Path | str, **settings: Any) -> AsyncIterator[Server]:
    """A target server. doors: what stands at its port, none unless given."""
    doors = settings.pop("doors", OPEN)
    registry = CollectorRegistry()
    configured = TargetSettings(model=str(folder), **(EXACT | settings))
    started = await asyncio.to_thread(start, configured, registry)
    service = TargetServer(started, registry)
    async with serving(
        ANY_PORT, service, ("paceline.v1.TargetService",), registry=registry, doors=doors
    ) as server:
        yield Server(f"127.0.0.1:{server.port}", started, registry)


@asynccontextmanager
async def draft(
    folder: Path | str | None, *, address: str = ANY_PORT, **settings: Any
) -> AsyncIterator[Server]:
    """A draft server; without a folder one that only looks up. doors: as of `target`."""
    doors = settings.pop("doors", OPEN)
    registry = CollectorRegistry()
    if folder is None:
        settings["drafter"] = "ngram"
    configured = DraftSettings(model=str(folder or ""), **(EXACT | settings))
    started = await asyncio.to_thread(draft_main.start, configured, registry)
    service = DraftServer(started, registry, configured.drafter)
    async with serving(
        address, service, ("paceline.v1.DraftService",), registry=registry, doors=doors
    ) as server:
        yield Server(f"127.0.0.1:{server.port}", started, registry)


@asynccontextmanager
async def orchestrator(
    targets: list[str],
    drafts: list[str],
    *,
    expect_drafts: int | None = None,
    registry: CollectorRegistry | None = None,
    **settings: Any,
) -> AsyncIterator[Client]:
    """An orchestrator, ready, and a client of it. drafts: addresses, or NAME=ADDRESS."""
    async with orchestrator_alone(targets, drafts, registry, **settings) as client:
        await has_drafts(client, len(drafts) if expect_drafts is None else expect_drafts)
        yield client


@asynccontextmanager
async def orchestrator_alone(
    target: Sequence[str] = ("unix:/nowhere",),
    draft: Sequence[str] = (),
    registry: CollectorRegistry | None = None,
    **settings: Any,
) -> AsyncIterator[Client]:
    """An orchestrator whose servers need not be there, and a client of it.

    callers: tokens of those who may call, all unless given; the client shows none.
    """
    callers: CallerTokens | None = settings.pop("callers", None)
    registry = registry or CollectorRegistry()
    configured = OrchestratorSettings(target=list(target), draft=list(draft), **settings)
    service = orchestrator_main.Orchestrator(
        configured, registry, orchestrator_main.dialing_tls(configured)
    )
    names = orchestrator_main.NAMES
    await service.listen()
    async with (
        serving(
            ANY_PORT,
            service,
            names,
            registry=registry,
            public=True,
            doors=doors_of(configured, callers),
        ) as server,
        Client(f"127.0.0.1:{server.port}", retries=0) as client,
    ):
        yield client


def codes(registry: CollectorRegistry, method: str) -> Counter[str]:
    """Calls of the method that have ended, by code."""
    found: Counter[str] = Counter()
    for family in registry.collect():
        for sample in family.samples:
            if sample.name == "paceline_rpcs_total" and sample.labels["method"] == method:
                found[sample.labels["code"]] += int(sample.value)
    return found


async def has_drafts(client: Client, count: int) -> None:
    """Wait until the orchestrator has a target, and so many drafts for it."""

    async def found() -> bool:
        return any(model.drafts == count for model in await client.models())

    await eventually(found)


async def has_targets(client: Client, count: int) -> None:
    """Wait until the orchestrator has so many targets."""

    async def found() -> bool:
        targets = (await client.status()).of(Role.TARGET)
        return sum(one.reachable for one in targets) == count

    await eventually(found)


async def eventually(
    condition: Callable[[], Awaitable[bool]], seconds: float = WAIT_SECONDS
) -> None:
    """Wait until `condition` holds; asserts that it does in the end.

    A server that is too busy to answer in time, as machines may be, is asked once more.
    """
    async with asyncio.timeout(seconds):
        while not await _holds(condition):
            await asyncio.sleep(0.01)


async def _holds(condition: Callable[[], Awaitable[bool]]) -> bool:
    try:
        return await condition()
    except DeadlineExceeded:
        return False


async def nothing_is_left(*running: Server) -> None:
    """Wait until no session and no page is held."""

    async def free() -> bool:
        loads = [server.started.engine.load for server in running]
        return all(load.sessions == 0 and load.kv_pages_used == 0 for load in loads)

    await eventually(free)
