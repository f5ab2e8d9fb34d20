"""One draft or target server: what it serves, and whether it answers."""

import asyncio
import math
import time
from collections.abc import Collection
from dataclasses import dataclass, field, replace
from typing import Any

import grpc
import structlog
from grpc_health.v1 import health_pb2, health_pb2_grpc

from orchestrator.backends.liveness import ServerWatch
from orchestrator.backends.tokenizer_fetch import fetch_files
from paceline.errors import InvalidArgument
from paceline.protocol.features import SHARED_CALLS
from paceline.protocol.model import Machine, ModelInfo, TokenizerFiles
from paceline.protocol.sampling import Sampling
from paceline.protocol.session import Load
from paceline.protocol.status import LOADING
from paceline.rpc.codec.model import machine_from_proto, model_info_from_proto
from paceline.rpc.codec.session import load_from_proto
from paceline.rpc.multiplex.call import SharedCall
from paceline.v1 import model_pb2, model_pb2_grpc

_log = structlog.get_logger(__name__)

BLAMED_SECONDS = 60.0
"""A server that broke the contract gets no session for so long, unless it is started anew."""
_FORGET = 1.1
POLL_SECONDS = 1.0
"""Servers are asked for their load this often, and have as long to answer."""
NOT_ASKED = "it was not asked yet"
"""Why a server that is new is not reachable."""
ANSWER_SECONDS, MOST_ANSWER_SECONDS = 0.2, 0.5
"""A server that is asked whether it is alive has twice as long as its answers took of late, within
these."""
_LOOKS = 3
MISSES = 3
"""A server that is late so often in a row is lost; one that cannot be reached is lost at once."""

_NOTHING_SAID = (grpc.StatusCode.DEADLINE_EXCEEDED, grpc.StatusCode.UNAVAILABLE)


@dataclass(frozen=True, slots=True)
class Blame:
    """When a server broke the contract, and how."""

    reason: str
    since: float = field(default_factory=time.monotonic)


@dataclass(slots=True)
class ReplicaHealth:
    """Whether a server answers and takes new sessions.

    misses: how often in a row it did not answer in time. reason: why it does not answer; empty
    while it does. draining: it is about to stop. retired: its name stands for it no longer.
    answer_seconds: how long its answers take, the longest of late. asked_at: when it was last
    asked, on the event loop's clock.
    """

    misses: int = MISSES
    reason: str = NOT_ASKED
    draining: bool = False
    retired: bool = False
    answer_seconds: float = 0.0
    asked_at: float = -math.inf

    @property
    def reachable(self) -> bool:
        """Whether it answers; it may be late now and then."""
        return self.misses < MISSES

    def answer(self, seconds: float, *, draining: bool) -> None:
        """It answered, in so many seconds."""
        self.misses, self.reason, self.draining = 0, "", draining
        self.answer_seconds = max(seconds, self.answer_seconds / 2)

    def doubt(self, reason: str) -> None:
        """A session was lost, or it does not answer now: until it does others are preferred."""
        self.misses, self.reason = max(1, self.misses), reason

    def miss(self, reason: str, *, late: bool) -> None:
        """It did not. late: it may yet."""
        self.reason = reason
        self.misses = min(MISSES, self.misses + 1) if late else MISSES


_CLOSED = ("Socket closed", "recvmsg:Connection reset by peer")
_HUNG_UP = (
    "where it closes each connection at once it speaks TLS (--tls-server-ca), or refuses the "
    "certificate shown to it (--tls-certificate)"
)


@dataclass(eq=False)
class Replica:
    """One server of a pool. `model` is None until it has answered.

    service: what it has to serve, by its full name; a server of another kind is not reachable.
    """

    address: str
    channel: grpc.aio.Channel
    model: ModelInfo | None = None
    load: Load = field(default_factory=Load)
    health: ReplicaHealth = field(default_factory=ReplicaHealth)
    sessions: int = 0
    machine: Machine | None = None
    round_trip_seconds: float = 0.0
    clock_offset_seconds: float = 0.0
    shared_call: SharedCall | None = None
    blame: Blame | None = None
    vocabulary: str = ""  # what it has of a target's, where that is not all
    wrong_vocabulary: bool = False  # too little of any target's: it is not used
    service: str = ""
    watch: ServerWatch = field(init=False)

    def __post_init__(self) -> None:
        """Its sessions are watched together."""
        self.watch = ServerWatch(self.answers)

    @property
    def blamed(self) -> bool:
        """Whether it broke the contract a moment ago."""
        return self.blame is not None and time.monotonic() - self.blame.since < BLAMED_SECONDS

    @property
    def reachable(self) -> bool:
        """See ReplicaHealth."""
        return self.health.reachable

    @property
    def kv_share(self) -> float:
        """See Load.kv_share; its reserve is not for new streams."""
        kv = self.model.kv if self.model is not None else None
        return self.load.kv_share(kv.reserve if kv is not None else 0)

    @property
    def process(self) -> str:
        """What names its process, while it answers."""
        return self.machine.process if self.machine is not None and self.reachable else ""

    @property
    def takes_shared_calls(self) -> bool:
        """Whether its server knows them."""
        return self.model is not None and SHARED_CALLS in self.model.features

    @property
    def ready(self) -> bool:
        """Whether sessions can be opened there."""
        answers = self.reachable and self.model is not None
        return answers and not self.health.draining and not self.health.retired

    @property
    def hindrance(self) -> str:
        """Why it is not ready; empty when it is."""
        reason = "it is draining" if self.health.draining else self.health.reason
        reason = f"it is {reason}" if reason.startswith(LOADING) else reason
        return "" if self.ready else f"{self.address}: {reason or 'its name stands for it no more'}"

    async def poll(self) -> None:
        """Ask for model and load."""
        asked, started = time.time(), time.monotonic()
        try:
            answer = await self._ask()
        except grpc.aio.AioRpcError as error:
            self._not_answered(error)
            return
        took = time.monotonic() - started
        if not self.reachable and not await self._serves():
            self.health.miss(f"it does not serve {self.service}", late=False)
            return
        self._take_machine(machine_from_proto(answer.machine), asked, took)
        self.load = load_from_proto(answer.load)
        self._take_model(self._checked(model_info_from_proto(answer.model)))
        self.health.answer(took, draining=answer.draining)

    def _take_machine(self, machine: Machine, asked: float, took: float) -> None:
        """Learn the round trip and how far its clock is off. asked: by the clock here."""
        # The least of late: a busy event loop may have kept an answer waiting.
        before = self.round_trip_seconds if self.reachable else took
        self.round_trip_seconds = min(took, _FORGET * before) if before else took
        self.clock_offset_seconds = machine.unix_seconds - (asked + took / 2)
        self.machine = machine

    def _take_model(self, model: ModelInfo) -> None:
        """What was said against a server is forgotten when it comes back."""
        if not self.reachable:
            _log.info("server found", address=self.address, model=model.name)
            self.wrong_vocabulary, self.blame = False, None
        self.wrong_vocabulary = self.wrong_vocabulary and model == self.model
        self.model = model

    def _checked(self, model: ModelInfo) -> ModelInfo:
        """As it says, but for sampling that no request could ask for."""
        try:
            model.default_sampling.validate()
        except InvalidArgument as error:
            if not self.reachable:
                _log.warning(
                    "a server's default sampling is left out",
                    address=self.address,
                    reason=str(error),
                )
            return replace(model, default_sampling=Sampling())
        return model

    async def _serves(self) -> bool:
        """Whether it is of the right kind. Where it has no grpc.health.v1 that is not known."""
        stub: Any = health_pb2_grpc.HealthStub(self.channel)
        request = health_pb2.HealthCheckRequest(service=self.service)
        try:
            await stub.Check(request, timeout=POLL_SECONDS)
        except grpc.aio.AioRpcError as error:
            return error.code() is not grpc.StatusCode.NOT_FOUND
        return True

    async def _ask(self) -> model_pb2.GetModelInfoResponse:
        """Ask; once more when a connection broke, for then the server itself may well be there."""
        stub = model_pb2_grpc.ModelServiceStub(self.channel)
        request = model_pb2.GetModelInfoRequest()
        try:
            return await stub.GetModelInfo(request, timeout=POLL_SECONDS)
        except grpc.aio.AioRpcError as error:
            if error.code() is not grpc.StatusCode.UNAVAILABLE:
                raise
        return await stub.GetModelInfo(request, timeout=POLL_SECONDS)

    async def answers(self) -> bool:
        """Whether it says anything when asked; where it does not it is in doubt.

        It has as long as a few looks take: what came while the event loop stood still is read.
        """
        longest = 2 * self.health.answer_seconds
        seconds = max(ANSWER_SECONDS, min(longest, MOST_ANSWER_SECONDS))
        asking = asyncio.create_task(self._says_something(2 * seconds))
        try:
            for _ in range(_LOOKS):
                await asyncio.wait({asking}, timeout=seconds / _LOOKS)
            alive = asking.done() and asking.result()
        finally:
            asking.cancel()
        if not alive:
            self.health.doubt(f"it did not answer in {seconds:.1f} s")
        return alive

    async def _says_something(self, seconds: float) -> bool:
        stub = model_pb2_grpc.ModelServiceStub(self.channel)
        try:
            await stub.GetModelInfo(model_pb2.GetModelInfoRequest(), timeout=seconds)
        except grpc.aio.AioRpcError as error:
            return error.code() not in _NOTHING_SAID
        return True

    def _not_answered(self, error: grpc.aio.AioRpcError) -> None:
        known, reason = self.reachable, _explained(error.details() or error.code().name)
        self.health.miss(reason, late=error.code() is grpc.StatusCode.DEADLINE_EXCEEDED)
        if known and not self.reachable:
            _log.warning("server lost", address=self.address, reason=reason)

    async def tokenizer_files(self) -> TokenizerFiles:
        """The model's tokenizer as it is, fetched anew."""
        return await fetch_files(self.channel)


def _explained(reason: str) -> str:
    """What gRPC says, and what to look at where that alone leads nowhere.

    Of TLS 1.3 the caller's part of the handshake is over before its certificate is refused.
    """
    return f"{reason}; {_HUNG_UP}" if any(words in reason for words in _CLOSED) else reason


def least_loaded(replicas: Collection[Replica]) -> Replica:
    """The one with the fewest sessions, of those that answer in time if any does."""

    def load(replica: Replica) -> tuple[bool, int]:
        said = replica.load
        return replica.health.misses > 0, max(said.sessions + said.waiting, replica.sessions)

    return min(replicas, key=load)
