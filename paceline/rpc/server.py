"""The life of a server process: health first, then the model, then calls, then draining."""

import asyncio
import contextlib
import gc
import logging
import os
import signal
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import Protocol

import grpc
import structlog
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection
from prometheus_client import CollectorRegistry

from paceline import log, raw_output, temporary_folders
from paceline.addresses import join
from paceline.best_effort import best_effort
from paceline.environment import unknown_variables, variables
from paceline.errors import BAD_INPUT, Internal, PacelineError, Unavailable, in_a_line
from paceline.ports import check_port, check_socket
from paceline.rpc.doors import OPEN, Doors, doors_of
from paceline.rpc.event_loop import EventLoop
from paceline.rpc.interceptors import CallInterceptor, RpcMetrics
from paceline.rpc.loading import Progress, saying_so
from paceline.rpc.metrics_server import MetricsServer
from paceline.rpc.options import (
    CLIENT_REQUEST_BYTES,
    ENGINE_REQUEST_BYTES,
    HEALTH_REQUEST_BYTES,
    server_options,
)
from paceline.rpc.process_metrics import process_registry
from paceline.rpc.tls import listen
from paceline.rpc.watched_files import keep_looking
from paceline.settings import ServerSettings
from paceline.tracing import start as tracing

_log = structlog.get_logger(__name__)

ALIVE_SECONDS = 1.0
"""The service is asked this often whether it is alive."""
SAID_AT, LOOKS_TO_SAY = 3, 60
"""What is not ready says so after so many looks, and again after so many more."""
DEAD_SECONDS = 10.0
"""A process that is not alive ends by itself after so long, where no liveness probe ends it."""
_LEEWAY_SECONDS = 1.0
YOUNG_OBJECTS = 10_000
"""New objects after which the collector looks for cycles. Python's own 700 are made and freed again
and again by the streams of one moment, which leave next to no cycles."""
SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING


class Service(Protocol):
    """What a process serves, once it is loaded."""

    def register(self, server: "RpcServer") -> None:
        """Add the servicers to `server.grpc`."""

    def alive(self) -> bool:
        """Whether what stands behind the servicers still works."""

    def hindrance(self) -> str:
        """Why no call can be served now, in words; empty while calls can be."""

    def drain(self) -> None:
        """Take nothing new from now on."""

    async def close(self) -> None:
        """Free everything."""


Load = Callable[[CollectorRegistry], Awaitable[Service]]


class Health:
    """grpc.health.v1: "" is alive, a service's name is ready."""

    def __init__(self, names: Sequence[str]) -> None:
        """Alive, and not ready."""
        self._names = names
        self.servicer = health.aio.HealthServicer()

    async def set(self, *, alive: bool, ready: bool) -> None:
        """Say so to everyone who asks or watches."""
        await self.servicer.set("", SERVING if alive else NOT_SERVING)
        for name in self._names:
            await self.servicer.set(name, SERVING if alive and ready else NOT_SERVING)


class RpcServer:
    """One port with some servicers on it, health, and, where asked, reflection."""

    def __init__(
        self,
        address: str,
        *,
        registry: CollectorRegistry | None,
        public: bool = False,
        doors: Doors = OPEN,
        shared: bool = False,
    ) -> None:
        """`address` is host:port, port 0 for any, or unix:/path. No registry: health alone.

        shared: others that say so too may listen at the same port.
        """
        self._address = address
        self._doors = doors
        metrics = RpcMetrics(registry or CollectorRegistry())
        self.calls = CallInterceptor(metrics, self._doors)
        interceptors = [self.calls] if registry else []
        most = CLIENT_REQUEST_BYTES if public else ENGINE_REQUEST_BYTES
        options = server_options(
            public=public,
            request_bytes=most if registry else HEALTH_REQUEST_BYTES,
            shared=shared,
        )
        self.grpc = grpc.aio.server(interceptors=interceptors, options=options)
        self.port = 0
        self.hurry = asyncio.Event()

    async def stop(self, drain_seconds: float) -> None:
        """Refuse new calls; let running ones go on for so long, or until `hurry` is set."""
        stopping = asyncio.create_task(self.grpc.stop(drain_seconds + _LEEWAY_SECONDS))
        hurried = asyncio.create_task(self.hurry.wait())
        first = asyncio.FIRST_COMPLETED
        await asyncio.wait({stopping, hurried}, timeout=drain_seconds, return_when=first)
        hurried.cancel()
        self.calls.stopping = True
        await self.grpc.stop(0)
        await asyncio.gather(stopping, hurried, return_exceptions=True)

    async def start(self, health_servicer: health.aio.HealthServicer, names: Sequence[str]) -> None:
        """Listen; raises Unavailable naming the address when it is taken."""
        health_pb2_grpc.add_HealthServicer_to_server(health_servicer, self.grpc)
        if names and self._doors.reflection:
            reflection.enable_server_reflection(
                [*names, health.SERVICE_NAME, reflection.SERVICE_NAME], self.grpc
            )
        try:
            self.port = listen(self.grpc, self._address, self._doors.tls)
        except RuntimeError as error:
            reason = str(error).partition(";")[0]  # what follows is for who debugs gRPC
            raise Unavailable(f"cannot listen on {self._address}: {reason}") from error
        await self.grpc.start()


@contextlib.asynccontextmanager
async def serving(
    address: str,
    service: Service,
    names: Sequence[str],
    *,
    registry: CollectorRegistry,
    public: bool = False,
    drain_seconds: float = 0.0,
    check: Health | None = None,
    doors: Doors = OPEN,
    shared: bool = False,
) -> AsyncIterator[RpcServer]:
    """Serve while the context lasts, then drain for at most `drain_seconds` and close."""
    check = check or Health(names)
    server = RpcServer(address, registry=registry, public=public, doors=doors, shared=shared)
    service.register(server)
    await server.start(check.servicer, names)
    reporting = asyncio.create_task(_report(service, check))
    try:
        yield server
    finally:
        reporting.cancel()
        await asyncio.gather(reporting, return_exceptions=True)
        service.drain()
        await check.set(alive=True, ready=False)
        await server.stop(drain_seconds)
        await service.close()


def run_process(
    settings: ServerSettings,
    names: Sequence[str],
    load: Load,
    *,
    public: bool,
    doors: Callable[[], Doors] | None = None,
    progress: Progress | None = None,
) -> None:
    """Run a process to its end; what stops it is logged, with exit status 1 or 2.

    2 where it never served, as what it was given cannot be right.

    doors: makes those at its ports; as the settings say unless given. progress: how far `load` is,
    told to who calls meanwhile. Where a signal came while `load` still ran on some thread, it is
    not waited for.
    """
    _begin_log(settings)
    end_traces = tracing.start(settings.service_name())
    loaded = False

    async def load_for_good(registry: CollectorRegistry) -> Service:
        nonlocal loaded
        service = await load(registry)
        loaded = True
        # What is there now stays. Looking through it all takes the collector a fifth of a second.
        gc.collect()
        gc.freeze()
        gc.set_threshold(YOUNG_OBJECTS, *gc.get_threshold()[1:])
        return service

    try:
        made = doors() if doors else doors_of(settings)
        check_addresses(settings)
        with asyncio.Runner(loop_factory=EventLoop) as runner:
            running = run(
                settings, names, load_for_good, public=public, doors=made, progress=progress
            )
            runner.run(running)
    except PacelineError as error:
        _log.error("stopped", reason=str(error))
        raise SystemExit(2 if isinstance(error, BAD_INPUT) and not loaded else 1) from None
    except Exception as error:
        if not loaded and isinstance(error, OSError) and error.strerror:  # of a file or the network
            _log.error("stopped", reason=in_a_line(error, kind=False))
            raise SystemExit(1) from None
        # Before calls are taken it can quote none, and whoever starts the server must know.
        _log.exception("stopped", reason=None if loaded else str(error))
        raise SystemExit(1) from None
    finally:
        end_traces()
    if not loaded:
        _log.info("stopped while loading")
        exit_at_once()


def _begin_log(settings: ServerSettings) -> None:
    """In the form asked for, whoever writes; says first which variables are misspelt."""
    form = log.form(settings.log_format)
    log.configure(settings.log_level, form, raw_output.wrap() if form == "json" else None)
    for unknown in unknown_variables(variables(type(settings))):
        _log.warning("unknown variable", name=unknown.name, reason=str(unknown))


def check_addresses(settings: ServerSettings) -> None:
    """Raise what hinders listening, naming the setting, before anything is loaded."""
    for name, (purpose, host) in settings.other_ports.items():
        check_port(host, getattr(settings, name), settings.setting(name), purpose=purpose)
    if settings.socket is None:
        shared = settings.port_is_shared
        check_port(settings.host, settings.port, settings.setting("port"), shared=shared)
    else:
        check_socket(settings.socket, settings.setting("socket"))


def exit_at_once() -> None:
    """Without waiting for threads, and for the interpreter to take down what is loaded."""
    temporary_folders.clear()
    logging.shutdown()
    raw_output.finish()
    os._exit(0)


async def run(
    settings: ServerSettings,
    names: Sequence[str],
    load: Load,
    *,
    public: bool,
    progress: Progress | None = None,
    doors: Doors = OPEN,
) -> None:
    """Run a process until SIGTERM or SIGINT; a second signal ends it without draining.

    The health port is up before `load` begins, which may take long: alive, not ready. Raises
    Internal when the service has died.
    """
    asyncio.get_running_loop().set_exception_handler(log.unheard)
    registry = process_registry(doors)
    stop = _stop_on_signals()
    check = Health(names)
    await check.set(alive=True, ready=False)
    health_server = RpcServer(join(settings.host, settings.health_port), registry=None)
    metrics_server = MetricsServer(settings.host, settings.metrics_port, registry, doors.tls)
    looking = asyncio.create_task(keep_looking(doors.files))
    try:
        await health_server.start(check.servicer, ())
        async with saying_so(settings.address, progress, doors.tls):
            service = await _unless(stop, load(registry))
        if service is None:
            return
        async with serving(
            settings.address,
            service,
            names,
            registry=registry,
            public=public,
            drain_seconds=settings.drain_seconds,
            check=check,
            doors=doors,
            shared=settings.port_is_shared,
        ) as server:
            port = None if settings.socket else server.port
            _log.info("listening", address=settings.address, port=port)
            await _watch(service, stop)
            _log.info("draining", seconds=settings.drain_seconds)
            server.hurry = _stop_on_signals()
    finally:
        looking.cancel()
        metrics_server.stop()
        await health_server.grpc.stop(0)


async def _report(service: Service, check: Health) -> None:
    """Tell health whether the service is alive and ready, and the log when that has changed."""
    hindered = -1
    while True:
        with best_effort("health"):
            hindrance = service.hindrance()
            await check.set(alive=service.alive(), ready=not hindrance)
            if hindered and not hindrance:
                _log.info("ready")
            hindered = max(0, hindered) + 1 if hindrance else 0
            if hindered % LOOKS_TO_SAY == SAID_AT:
                _log.warning("not ready", reason=hindrance)
        await asyncio.sleep(ALIVE_SECONDS)


async def _watch(service: Service, stop: asyncio.Event) -> None:
    """Until `stop` is set; raises Internal after DEAD_SECONDS in which the service was dead."""
    dead = 0
    while not stop.is_set():
        dead = 0 if service.alive() else dead + 1
        if dead == 1:
            _log.error("not alive any more")
        if dead * ALIVE_SECONDS > DEAD_SECONDS:
            raise Internal("what stands behind the calls has died")
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(stop.wait(), ALIVE_SECONDS)


async def _unless(stop: asyncio.Event, loading: Awaitable[Service]) -> Service | None:
    """What `loading` gives; None when `stop` is set before."""
    task = asyncio.ensure_future(loading)
    stopping = asyncio.create_task(stop.wait())
    done, _ = await asyncio.wait({task, stopping}, return_when=asyncio.FIRST_COMPLETED)
    stopping.cancel()
    if task not in done:
        task.cancel()
    await asyncio.gather(task, stopping, return_exceptions=True)
    return task.result() if task in done else None


def _stop_on_signals() -> asyncio.Event:
    """An event that the next SIGTERM or SIGINT sets."""
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    return stop
