"""python -m draft_server."""

import asyncio

import grpc
from prometheus_client import CollectorRegistry

from draft_server.metrics import DraftMetrics
from draft_server.service import DraftService
from draft_server.settings import DraftSettings
from paceline import log
from paceline.engine.bootstrap import StartedEngine, start_engine
from paceline.rpc.model_service import ModelService
from paceline.rpc.server import run
from paceline.settings import parse
from paceline.v1 import draft_pb2_grpc, model_pb2_grpc

NAMES = ("paceline.v1.DraftService", "paceline.v1.ModelService")


class DraftServer:
    """The engine and the services on it."""

    def __init__(self, started: StartedEngine, registry: CollectorRegistry) -> None:
        """Own the engine."""
        self._started = started
        self._metrics = DraftMetrics(registry)
        self._draining = False

    def register(self, server: grpc.aio.Server) -> None:
        """Add the servicers."""
        engine, model = self._started.engine, self._started.model
        draft = DraftService(engine, model, self._metrics, lambda: self._draining)
        info = ModelService(
            model, self._started.tokenizer, lambda: engine.load, lambda: self._draining
        )
        draft_pb2_grpc.add_DraftServiceServicer_to_server(draft, server)
        model_pb2_grpc.add_ModelServiceServicer_to_server(info, server)

    def alive(self) -> bool:
        """Whether the engine's worker runs."""
        return self._started.engine.alive

    def drain(self) -> None:
        """Open no more sessions."""
        self._draining = True

    async def close(self) -> None:
        """Stop the engine."""
        await asyncio.to_thread(self._started.engine.stop)


def main() -> None:
    """Run the process."""
    settings = parse(DraftSettings)
    log.configure(settings.log_level, settings.log_format)

    async def load(registry: CollectorRegistry) -> DraftServer:
        started = await asyncio.to_thread(start_engine, settings, registry)
        return DraftServer(started, registry)

    asyncio.run(run(settings, NAMES, load, public=False))


if __name__ == "__main__":
    main()
