"""The process of a draft or target server: the engine starts on a thread of its own."""

import asyncio
import os
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import TypeVar

from prometheus_client import CollectorRegistry

from paceline.engine import load_progress
from paceline.engine.interfaces import StartedEngine
from paceline.engine.settings import CORES, EngineSettings
from paceline.engine_server.server import EngineServer
from paceline.errors import InvalidArgument
from paceline.rpc.server import exit_at_once, run_process

SettingsType = TypeVar("SettingsType", bound=EngineSettings)

SPIN_COUNT = "10000"
"""How long libgomp's workers spin, about 0.1 ms: long enough to bridge two operators, short enough
to leave the cores to others. Its own 300,000 made steps fifty times as long beside busy processes.
"""


def run_engine_process(
    settings: SettingsType,
    names: tuple[str, ...],
    start: Callable[[SettingsType, CollectorRegistry], StartedEngine],
    make: Callable[[StartedEngine, CollectorRegistry], EngineServer],
) -> None:
    """Run a server process: `start` the engine, serve what `make` makes of it, until a signal."""
    spin_shortly()

    async def load(registry: CollectorRegistry) -> EngineServer:
        check_threads(settings.threads)
        return make(await _in_own_thread(start, settings, registry), registry)

    run_process(settings, names, load, public=False, progress=load_progress.words)
    exit_at_once()  # all is closed; the interpreter takes seconds to take vLLM and torch down


def spin_shortly() -> None:
    """Tell libgomp, which reads it when torch is imported; not where an operator has said more."""
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", SPIN_COUNT)


def check_threads(threads: int) -> None:
    """Raise InvalidArgument beyond the cores; settings may be read on a machine with fewer."""
    if threads > CORES:
        limit = f"at most {CORES}, the cores that it may use here"
        raise InvalidArgument.of("--threads", threads, limit)


async def _in_own_thread(
    start: Callable[[SettingsType, CollectorRegistry], StartedEngine],
    settings: SettingsType,
    registry: CollectorRegistry,
) -> StartedEngine:
    """What `start` returns, of a thread that ends with it; once cancelled nobody waits for that.

    OpenMP keeps workers for each thread that ever ran a model. When there are more of them
    than cores they no longer spin between operators but sleep, and a step takes a tenth longer.
    """
    running: Future[StartedEngine] = Future()

    def load() -> None:
        try:
            running.set_result(start(settings, registry))
        except BaseException as error:
            running.set_exception(error)

    running.set_running_or_notify_cancel()
    threading.Thread(target=load, name="load", daemon=True).start()
    return await asyncio.wrap_future(running)
