"""python -m orchestrator."""

from paceline import interrupts  # noqa: F401  # isort: skip  before what takes long

import asyncio
from collections.abc import Callable
from functools import cache, partial

import structlog
from prometheus_client import CollectorRegistry
from smg_grpc_proto.generated import vllm_engine_pb2_grpc

from orchestrator.backends.draft_router import DraftRouter
from orchestrator.backends.pool import Pool
from orchestrator.backends.shadow import Shadows
from orchestrator.gateway.service import VllmEngine
from orchestrator.page.front import Page
from orchestrator.serving.all_streams import AllStreams
from orchestrator.serving.choices import ChoiceRunner
from orchestrator.serving.generation import Serving
from orchestrator.serving.metrics import OrchestratorMetrics
from orchestrator.serving.readiness import Readiness
from orchestrator.serving.served_models import ServedModels
from orchestrator.serving.service import GenerationService
from orchestrator.serving.shadow_metrics import ShadowCollector
from orchestrator.serving.status_report import report
from orchestrator.serving.status_service import StatusService
from orchestrator.settings import OrchestratorSettings
from paceline.addresses import join
from paceline.rpc.doors import Doors, doors_of, identity_of
from paceline.rpc.server import RpcServer, run_process
from paceline.rpc.tls import ClientTls
from paceline.rpc.tokens import CallerTokens
from paceline.settings import parse
from paceline.v1 import generation_pb2_grpc, status_pb2_grpc

NAMES = (
    "paceline.v1.GenerationService", "paceline.v1.StatusService", "vllm.grpc.engine.VllmEngine",
)  # fmt: skip
TARGET_SERVICE = "paceline.v1.TargetService"

_log = structlog.get_logger(__name__)


class Orchestrator:
    """The service, with the pools it draws on."""

    def __init__(
        self,
        settings: OrchestratorSettings,
        registry: CollectorRegistry,
        tls: ClientTls | None = None,
    ) -> None:
        """Begin to watch the pools; belongs to the running event loop. tls: how they are dialed."""
        targets = Pool(settings.target, TARGET_SERVICE, tls)
        drafts = DraftRouter(settings.draft, tls)
        streams = AllStreams(drafts)
        shadows = Shadows(settings.shadow_draft, settings.shadow_share, tls)
        metrics = OrchestratorMetrics(registry, targets, drafts, streams)
        registry.register(ShadowCollector(shadows))
        self._models = models = ServedModels(targets, drafts)
        self._readiness = Readiness()
        runner = ChoiceRunner(settings, targets, drafts, streams, metrics, shadows)
        self._serving = serving = Serving(settings, models, runner)
        self._service = GenerationService(serving)
        status = partial(report, targets, drafts, streams, shadows)
        self._status = StatusService(status)
        self._gateway = VllmEngine(serving, status, self.hindrance)
        self._page = Page(serving, status, self.hindrance)
        self._settings = settings
        self._hurry: Callable[[], asyncio.Event] = asyncio.Event
        watches = (
            targets.watch(),
            *(pool.watch() for pool in drafts.pools),
            models.prepare(),
            drafts.compare(targets),
            *shadows.watches(targets),
        )
        self._watchers = [asyncio.create_task(watch) for watch in watches]

    async def listen(self) -> None:
        """Take requests for the page, where it has a port; raises Unavailable where it is taken."""
        if self._settings.page_port:
            host = self._settings.page_host
            port = await self._page.start(host, self._settings.page_port)
            _log.info("page listening", address=join(host, port), port=port)

    def register(self, server: RpcServer) -> None:
        """Add the servicers."""
        generation_pb2_grpc.add_GenerationServiceServicer_to_server(self._service, server.grpc)
        status_pb2_grpc.add_StatusServiceServicer_to_server(self._status, server.grpc)
        vllm_engine_pb2_grpc.add_VllmEngineServicer_to_server(self._gateway, server.grpc)
        self._page.calls = server.calls
        self._hurry = lambda: server.hurry

    def alive(self) -> bool:
        """Whether all pools are still watched. Without any target it stays alive."""
        return not any(watcher.done() for watcher in self._watchers)

    def hindrance(self) -> str:
        """Why it is not ready: without a target it is alive, and can serve nothing."""
        now = asyncio.get_running_loop().time()
        models = self._models
        return self._readiness.hindrance(usable=models.usable, why=models.hindrances, now=now)

    def drain(self) -> None:
        """Streams go on elsewhere, if they can. The page takes no new requests, gRPC neither."""
        self._serving.drain()
        self._page.drain()

    async def close(self) -> None:
        """End the page's streams, and stop watching."""
        await self._page.close(self._settings.drain_seconds, self._hurry())
        for watcher in self._watchers:
            watcher.cancel()
        await asyncio.gather(*self._watchers, return_exceptions=True)


def dialing_tls(settings: OrchestratorSettings) -> ClientTls | None:
    """How targets and drafts are dialed; None: in plaintext. InvalidArgument names a wrong file."""
    if settings.tls_server_ca is None:
        return None
    return ClientTls(settings.tls_server_ca, identity_of(settings))


def tokens_of(settings: OrchestratorSettings) -> CallerTokens | None:
    """What callers have to show; None: nothing."""
    if settings.token_file is None and not settings.tokens:
        return None
    given = {name: token.get_secret_value() for name, token in settings.tokens.items()}
    return CallerTokens(settings.token_file, given)


def main() -> None:
    """Run the process."""
    settings = parse(OrchestratorSettings)
    dials = cache(partial(dialing_tls, settings))

    async def load(registry: CollectorRegistry) -> Orchestrator:
        orchestrator = Orchestrator(settings, registry, dials())
        await orchestrator.listen()
        return orchestrator

    def doors() -> Doors:
        return doors_of(settings, tokens_of(settings), dials())

    run_process(settings, NAMES, load, public=True, doors=doors)


if __name__ == "__main__":
    main()
