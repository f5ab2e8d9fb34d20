"""Real servers in this process, on real sockets."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import draft_server.__main__ as draft_main
import orchestrator.__main__ as orchestrator_main
import target_server.__main__ as target_main
from draft_server.settings import DraftSettings
from orchestrator.settings import OrchestratorSettings
from paceline.client import Client
from paceline.engine.bootstrap import StartedEngine, start_engine
from paceline.rpc.server import serving
from prometheus_client import CollectorRegistry
from target_server.settings import TargetSettings

ANY_PORT = "127.0.0.1:0"
WAIT_SECONDS = 60.0


@dataclass
class Server:
    """A draft or target server that runs."""

    address: str
    started: StartedEngine
    registry: CollectorRegistry


@asynccontextmanager
async def target(folder: Path, **settings: Any) -> AsyncIterator[Server]:
    """A target server."""
    registry = CollectorRegistry()
    configured = TargetSettings(model=str(folder), dtype="float64", threads=1, **settings)
    started = await asyncio.to_thread(start_engine, configured, registry)
    service = target_main.TargetServer(started, registry)
    async with serving(ANY_PORT, service, target_main.NAMES, registry=registry) as server:
        yield Server(f"127.0.0.1:{server.port}", started, registry)


@asynccontextmanager
async def draft(folder: Path, **settings: Any) -> AsyncIterator[Server]:
    """A draft server."""
    registry = CollectorRegistry()
    configured = DraftSettings(model=str(folder), dtype="float64", threads=1, **settings)
    started = await asyncio.to_thread(start_engine, configured, registry)
    service = draft_main.DraftServer(started, registry)
    async with serving(ANY_PORT, service, draft_main.NAMES, registry=registry) as server:
        yield Server(f"127.0.0.1:{server.port}", started, registry)


@asynccontextmanager
async def orchestrator(
    targets: list[str], drafts: list[str], *, expect_drafts: int | None = None, **settings: Any
) -> AsyncIterator[Client]:
    """An orchestrator, ready, and a client of it."""
    registry = CollectorRegistry()
    configured = OrchestratorSettings(target=targets, draft=drafts, **settings)
    service = orchestrator_main.Orchestrator(configured, registry)
    async with AsyncExitStack() as stack:
        names = orchestrator_main.NAMES
        server = await stack.enter_async_context(
            serving(ANY_PORT, service, names, registry=registry, public=True)
        )
        client = await stack.enter_async_context(Client(f"127.0.0.1:{server.port}"))
        wanted = len(drafts) if expect_drafts is None else expect_drafts

        async def found() -> bool:
            return any(model.drafts == wanted for model in await client.models())

        await eventually(found)
        yield client


async def eventually(condition: Callable[[], Awaitable[bool]]) -> None:
    """Wait until `condition` holds; asserts that it does in the end."""
    async with asyncio.timeout(WAIT_SECONDS):
        while not await condition():
            await asyncio.sleep(0.01)
