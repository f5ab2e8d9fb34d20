"""python -m target_server."""

import asyncio

import grpc
from prometheus_client import CollectorRegistry

from paceline import log
from paceline.engine.bootstrap import StartedEngine, start_engine
from paceline.rpc.model_service import ModelService
from paceline.rpc.server import run
from paceline.settings import parse
from paceline.v1 import model_pb2_grpc, target_pb2_grpc
from target_server.metrics import TargetMetrics
from target_server.service import TargetService
from target_server.settings import TargetSettings

NAMES = ("paceline.v1.TargetService", "paceline.v1.ModelService")


class TargetServer:
    """The engine and the services on it."""

    def __init__(self, started: StartedEngine, registry: CollectorRegistry) -> None:
        """Own the engine."""
        self._started = started
        self._metrics = TargetMetrics(registry)
        self._draining = False

    def register(self, server: grpc.aio.Server) -> None:
        """Add the servicers."""
        engine, model = self._started.engine, self._started.model
        target = TargetService(engine, model, self._metrics, lambda: self._draining)
        info = ModelService(
            model, self._started.tokenizer, lambda: engine.load, lambda: self._draining
        )
        target_pb2_grpc.add_TargetServiceServicer_to_server(target, server)
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
    settings = parse(TargetSettings)
    log.configure(settings.log_level, settings.log_format)

    async def load(registry: CollectorRegistry) -> TargetServer:
        started = await asyncio.to_thread(start_engine, settings, registry)
        return TargetServer(started, registry)

    asyncio.run(run(settings, NAMES, load, public=False))


if __name__ == "__main__":
    main()
