"""Servers work on any Engine: here one that knows no batches and has no prefix cache."""

import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

from prometheus_client import CollectorRegistry

from paceline.engine.interfaces import Decoder, KVCache, Runner, StartedEngine, StepReport
from paceline.engine.simulated import SimulatedModel, SimulatedRunner, start_simulated
from paceline.errors import Unavailable
from paceline.protocol.generation import GenerateRequest, Speculation
from paceline.protocol.model import KVSize
from paceline.protocol.sampling import SamplingParams
from paceline.protocol.session import Load
from paceline.rpc.server import serving
from target_server.service import TargetServer
from target_server.settings import TargetSettings
from tests import servers

MODEL = "simulated:step_ms=1"
PAGES = 64


class OneByOneSession:
    """A decoder and its cache."""

    waiting = False

    def __init__(self, decoder: Decoder, cache: KVCache) -> None:
        self.decoder = decoder
        self.cache = cache
        self.closed = False

    @property
    def cached_tokens(self) -> int:
        return self.cache.length


class OneByOneEngine:
    """Steps a session alone, whenever it is woken. It has as many pages as sessions."""

    def __init__(self, runner: Runner) -> None:
        self.after_step: Callable[[], None] = lambda: None
        self.kv = KVSize(2**20, PAGES)
        self.alive = True
        self.steps = 0
        self.pace = 0.0
        self.max_block_tokens = 64
        self._runner = runner
        self._sessions: set[OneByOneSession] = set()
        self._thread = ThreadPoolExecutor(1)

    def open(
        self,
        decoder: Decoder,
        tokens: Sequence[int],
        max_length: int,
        *,
        resumes: bool = False,
        salt: str | None = "",
        priority: int = 0,
        has_room: Callable[[], bool] = lambda: True,
        waits: bool = True,
        spare: bool = False,
    ) -> OneByOneSession:
        if not self.alive:
            raise Unavailable("the engine has stopped")
        session = OneByOneSession(decoder, self._runner.new_cache(max_length))
        self._sessions.add(session)
        return session

    def close(self, session: OneByOneSession) -> None:
        session.closed = True
        self._sessions.discard(session)

    def wake(self, session: OneByOneSession) -> None:
        self._thread.submit(self._run, session)

    def stop(self) -> None:
        self.alive = False
        self._thread.shutdown()

    @property
    def load(self) -> Load:
        return Load(
            sessions=len(self._sessions),
            batched_tokens=1,
            kv_pages_used=len(self._sessions),
            kv_pages_total=PAGES,
        )

    def _run(self, session: OneByOneSession) -> None:
        while not session.closed and (span := session.decoder.plan(session.cached_tokens)):
            started = time.perf_counter()
            [logits] = self._runner.forward([(session.cache, span)])
            ended = time.perf_counter()
            self.steps += 1
            self.pace = ended - started
            session.decoder.commit(span, logits, StepReport(self.pace, self.load, None))
            self.after_step()


async def output(target: str, draft: str) -> tuple[int, ...]:
    request = GenerateRequest(
        "go on",
        sampling=SamplingParams(temperature=0),
        max_tokens=100,
        speculation=Speculation.FORCE,
        seed=1,
    )
    async with servers.orchestrator([target], [draft]) as client:
        return (await client.generate(request).result()).token_ids


async def test_a_target_on_another_engine_gives_the_same_tokens() -> None:
    settings, registry = TargetSettings(model=MODEL), CollectorRegistry()
    started = start_simulated(settings, registry, drafts=False)
    other = OneByOneEngine(SimulatedRunner(SimulatedModel.parse(MODEL), drafts=False))
    service = TargetServer(StartedEngine(other, started.model, started.tokenizer), registry)
    async with (
        servers.draft("simulated:step_ms=1,acceptance=0.7", drafter="model") as draft,
        servers.target(MODEL) as own,
        serving(servers.ANY_PORT, service, servers.TARGET, registry=registry) as server,
    ):
        expected = await output(own.address, draft.address)
        assert await output(f"127.0.0.1:{server.port}", draft.address) == expected
        assert len(expected) == 100
        assert other.steps > 0
    started.engine.stop()
