"""Pools: which draft or target servers there are, what they serve, and which one to pick."""

import asyncio
import time
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, field

import grpc
import structlog

from orchestrator.fetching import fetch_files, fetch_tokenizer
from orchestrator.tokenizer import TargetTokenizer
from paceline.errors import Unavailable
from paceline.rpc.channels import open_channel, resolve
from paceline.rpc.codec import load_from_proto, machine_from_proto, model_info_from_proto
from paceline.rpc.shared_call import FEATURE as SHARED_CALLS
from paceline.rpc.shared_call import SharedCall
from paceline.session import Load, Machine, ModelInfo, TokenizerFiles
from paceline.v1 import model_pb2, model_pb2_grpc
from paceline.watching import harmless

_log = structlog.get_logger(__name__)

BLAMED_SECONDS = 60.0
"""A server that broke the contract gets no session for so long, unless it is started anew."""
RESOLVE_SECONDS = 5.0
"""Names are resolved anew this often."""
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

    async def tokenizer(self) -> TargetTokenizer:
        """The model's tokenizer, fetched anew."""
        return await fetch_tokenizer(self.channel)

    async def tokenizer_files(self) -> TokenizerFiles:
        """The model's tokenizer as it is, fetched anew."""
        return await fetch_files(self.channel)


async def _poll(replica: Replica) -> None:
    with harmless(f"asking the server at {replica.address}"):
        await replica.poll()


def least_loaded(replicas: Collection[Replica]) -> Replica:
    """The one with the fewest sessions, of those that answer in time if any does."""

    def load(replica: Replica) -> tuple[bool, int]:
        return replica.misses > 0, max(replica.load.sessions, replica.sessions)

    return min(replicas, key=load)


class Pool:
    """The servers behind some addresses, each name standing for all it resolves to."""

    def __init__(self, addresses: Iterable[str]) -> None:
        """Know of no server yet."""
        self.addresses = tuple(addresses)
        self._resolved: dict[str, set[str]] = {name: set() for name in self.addresses}
        self._replicas: dict[str, Replica] = {}
        self._servers: list[Replica] = []

    @property
    def all(self) -> list[Replica]:
        """Every server an address of which is known, each once."""
        return list(self._servers)

    @property
    def ready(self) -> list[Replica]:
        """Servers that sessions can be opened on."""
        return [replica for replica in self.all if replica.ready]

    async def watch(self) -> None:
        """Keep resolving and polling until cancelled; closes all channels then."""
        rounds = round(RESOLVE_SECONDS / POLL_SECONDS)
        try:
            while True:
                with harmless("looking for servers"):
                    await self._resolve()
                    await self._close_retired()
                for _ in range(rounds):
                    await self.poll()
                    await asyncio.sleep(POLL_SECONDS)
        finally:
            await asyncio.gather(*(replica.channel.close() for replica in self._replicas.values()))

    async def poll(self) -> None:
        """Ask every server once. What one answers keeps nobody from hearing the others."""
        await asyncio.gather(*(_poll(replica) for replica in self._replicas.values()))
        self._tell_apart()

    def pick(
        self,
        fits: Callable[[ModelInfo], bool],
        wanted: str,
        without: Collection[Replica] = (),
    ) -> Replica:
        """The least loaded server whose model fits; raises Unavailable naming what was `wanted`."""
        able = [replica for replica in self.ready if replica not in without]
        fitting = [replica for replica in able if replica.model and fits(replica.model)]
        if not fitting:
            raise Unavailable(f"no {wanted} is reachable")
        return least_loaded(fitting)

    def _tell_apart(self) -> None:
        """What answers at two addresses is one server, at the first of them."""
        spare = {address for name in self._resolved.values() for address in self._spare(name)}
        servers: dict[str, Replica] = {}
        for address, replica in self._replicas.items():
            if address not in spare:
                servers.setdefault(replica.process or address, replica)
        self._servers = list(servers.values())

    def _spare(self, addresses: set[str]) -> set[str]:
        """Those that do not answer, of a name that stands for servers of the other IP family.

        localhost is 127.0.0.1 and ::1, and most servers listen on one of them.
        """
        groups = [{one for one in addresses if one.startswith("[") is six} for six in (False, True)]
        answers = [any(self._answers(one) for one in group) for group in groups]
        spare = groups[1] if answers[0] else groups[0] if answers[1] else set()
        return {one for one in spare if not self._answers(one)}

    def _answers(self, address: str) -> bool:
        return address in self._replicas and self._replicas[address].reachable

    async def _resolve(self) -> None:
        for name in self.addresses:
            try:
                self._resolved[name] = set(await resolve(name))
            except Unavailable as error:  # those it stood for until now may well be alive
                _log.warning("name not resolved", name=name, reason=str(error))
        found = set().union(*self._resolved.values())
        for address in sorted(found - self._replicas.keys()):
            self._replicas[address] = Replica(address, open_channel(address))
        for address, replica in self._replicas.items():
            replica.retired = address not in found
        self._tell_apart()

    async def _close_retired(self) -> None:
        """Close channels of servers whose names are gone, once their streams have ended."""
        for replica in list(self._replicas.values()):
            if replica.retired and not replica.sessions:
                del self._replicas[replica.address]
                self._tell_apart()
                await replica.channel.close()
