"""One draft or target server: what it serves, and whether it answers."""

import time
from collections.abc import Collection
from dataclasses import dataclass, field

import grpc
import structlog

from orchestrator.backends.tokenizer_fetch import fetch_files
from paceline.protocol.model import Machine, ModelInfo, TokenizerFiles
from paceline.protocol.session import Load
from paceline.rpc.codec.model import machine_from_proto, model_info_from_proto
from paceline.rpc.codec.session import load_from_proto
from paceline.rpc.multiplex.call import FEATURE as SHARED_CALLS
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
MISSES = 3
"""A server that is late so often in a row is lost; one that cannot be reached is lost at once."""


@dataclass(frozen=True, slots=True)
class Blame:
    """That a server said what it was not asked for, and when."""

    reason: str
    since: float = field(default_factory=time.monotonic)


@dataclass(eq=False)
class Replica:
    """One server of a pool. `model` is None until it has answered."""

    address: str
    channel: grpc.aio.Channel
    model: ModelInfo | None = None
    load: Load = field(default_factory=Load)
    draining: bool = False
    misses: int = MISSES
    retired: bool = False
    benched: bool = False
    sessions: int = 0
    machine: Machine | None = None
    reason: str = NOT_ASKED
    round_trip_seconds: float = 0.0
    clock_offset_seconds: float = 0.0
    shared_call: SharedCall | None = None
    blame: Blame | None = None
    vocabulary: str = ""  # what it has of a target's, where that is not all

    @property
    def blamed(self) -> bool:
        """Whether it broke the contract a moment ago."""
        return self.blame is not None and time.monotonic() - self.blame.since < BLAMED_SECONDS

    @property
    def reachable(self) -> bool:
        """Whether it answers; it may be late now and then."""
        return self.misses < MISSES

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
        return answers and not self.draining and not self.retired

    async def poll(self) -> None:
        """Ask for model and load."""
        asked, started = time.time(), time.monotonic()
        try:
            answer = await self._ask()
        except grpc.aio.AioRpcError as error:
            self._not_answered(error)
            return
        took = time.monotonic() - started
        # The least of late: an answer that a busy event loop kept waiting says nothing of the way.
        before = self.round_trip_seconds if self.reachable else took
        self.round_trip_seconds = min(took, _FORGET * before) if before else took
        self.machine = machine_from_proto(answer.machine)
        middle = asked + took / 2
        self.clock_offset_seconds = self.machine.unix_seconds - middle
        self.reason = ""
        model = model_info_from_proto(answer.model)
        self.benched = self.benched and model == self.model
        self.model = model
        self.load = load_from_proto(answer.load)
        self.draining = answer.draining
        if not self.reachable:
            _log.info("server found", address=self.address, model=self.model.name)
            self.benched, self.blame = False, None
        self.misses = 0

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

    def _not_answered(self, error: grpc.aio.AioRpcError) -> None:
        known, late = self.reachable, error.code() is grpc.StatusCode.DEADLINE_EXCEEDED
        self.reason = error.details() or error.code().name
        self.misses = min(MISSES, self.misses + 1) if late else MISSES
        if known and not self.reachable:
            _log.warning("server lost", address=self.address, reason=self.reason)

    async def tokenizer_files(self) -> TokenizerFiles:
        """The model's tokenizer as it is, fetched anew."""
        return await fetch_files(self.channel)


def least_loaded(replicas: Collection[Replica]) -> Replica:
    """The one with the fewest sessions, of those that answer in time if any does."""

    def load(replica: Replica) -> tuple[bool, int]:
        return replica.misses > 0, max(replica.load.sessions, replica.sessions)

    return min(replicas, key=load)
