"""Connections of a client: dialed when first needed, in each event loop and process its own."""

import asyncio
import contextlib
import itertools
import json
import math
import re
import time
import weakref
from collections import Counter
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from urllib.parse import unquote

import grpc

from paceline.addresses import split
from paceline.client import forks, names
from paceline.client.access import Access
from paceline.client.addresses import Orchestrators
from paceline.client.diagnosis import Diagnosis, Dialer, NobodyThere, look
from paceline.errors import DeadlineExceeded, PacelineError, Unavailable, Unimplemented
from paceline.rpc.options import CLIENT_ANSWER_BYTES, Options, channel_options
from paceline.rpc.status_codes import from_rpc_error
from paceline.settings import ORCHESTRATOR_PORT
from paceline.v1 import generation_pb2, generation_pb2_grpc, status_pb2_grpc

_SERVICE_CONFIG = json.dumps({"loadBalancingConfig": [{"round_robin": {}}]})
DOUBT_SECONDS = 5.0
"""An orchestrator that was silent, or about to stop, is not asked for so long whether it can serve
again; until it says so others are preferred."""
RESOLVE_SECONDS = 5.0
"""Names are resolved anew this often, beside the calls."""
CONNECT_SECONDS = 0.25
"""Where there are several a call waits so long for one that is connected."""
ANSWER_SECONDS = 0.5
"""An orchestrator is asked for so long whether it can serve."""
_LOOK_SECONDS = 0.005
_BY_CLIENT = "Deadline Exceeded"
"""So gRPC says that the deadline of a call passed here, before the server could say it."""
_NOBODY = (
    *("failed to connect", "connections to all backends failing"),
    *("DNS resolution failed", "errors resolving"),
)
"""How gRPC begins what it says where there is no server."""
_HTTP = re.compile(r"frame type (79|80)\)|an http1\.x server|http2 header with status: 4\d\d")
"""In what gRPC says where HTTP is spoken: 79 and 80 are read out of <!DOCTYPE and HTTP/1.1."""
_NO_GRPC = "speaks HTTP, and no gRPC, as the ports of metrics, page and gateway do"
_NO_METHOD = "Method not found!"
_OTHER = "a health port, a target, a draft or an older orchestrator answers there"
_ORCHESTRATOR = f"the orchestrator is asked, at port {ORCHESTRATOR_PORT} unless told otherwise"


@dataclass(frozen=True, eq=False)
class Connection:
    """A channel to one of the addresses of a name.

    target: the name. address: what is dialed; the name itself where gRPC resolves it, whose calls
    go round among its addresses.
    """

    target: str
    address: str
    channel: grpc.aio.Channel
    tls: bool
    generation: "generation_pb2_grpc.GenerationServiceAsyncStub"
    status: "status_pb2_grpc.StatusServiceAsyncStub"

    def error(self, error: grpc.aio.AioRpcError) -> PacelineError:
        """The server's error; when there is no server, one that says so.

        gRPC's loses its traceback, whose frames would hold the channel as long as it is kept.
        """
        error.with_traceback(None)
        found = from_rpc_error(error)
        if isinstance(found, Unavailable) and str(found).startswith(_NOBODY):
            why = unquote(str(found))
            if _HTTP.search(why):
                return Unavailable(f"{self.target} {_NO_GRPC}; {_ORCHESTRATOR}")
            return NobodyThere(self.target, why)
        if isinstance(found, Unimplemented) and _HTTP.search(str(found)):
            return Unimplemented(f"{self.target} {_NO_GRPC}; {_ORCHESTRATOR}")
        if isinstance(found, Unimplemented) and str(found) == _NO_METHOD:
            what = f"{self.target} does not serve that: {_OTHER}"
            return Unimplemented(f"{what}; {_ORCHESTRATOR}")
        if isinstance(found, DeadlineExceeded) and _BY_CLIENT in str(found):
            return DeadlineExceeded(f"{self.target} had not answered in full within the timeout")
        return found

    @property
    def state(self) -> grpc.ChannelConnectivity:
        """Whether it is connected; where it is not it begins to be."""
        return self.channel.get_state(try_to_connect=True)

    async def can_serve(self) -> bool:
        """Whether the orchestrator has models for whoever asks it now."""
        request = generation_pb2.ListModelsRequest()
        with contextlib.suppress(grpc.aio.AioRpcError):
            answer = await self.generation.ListModels(request, timeout=ANSWER_SECONDS)
            return bool(answer.models)
        return False


@dataclass
class _Dialed:
    """What one event loop has. renewing: names are resolved anew, since the last time."""

    connections: list[Connection]
    resolved: float = field(default_factory=time.monotonic)
    renewing: "asyncio.Task[None] | None" = None
    settled: bool = False


class Connections:
    """Those of one client, to all of its orchestrators."""

    def __init__(self, orchestrators: Orchestrators, proxy: str, access: Access) -> None:
        """Dials nothing yet."""
        self._orchestrators = orchestrators
        self._proxy = proxy
        self._access = access
        self._of_loop: dict[asyncio.AbstractEventLoop, _Dialed] = {}
        self._calls: Counter[asyncio.AbstractEventLoop] = Counter()
        self._turn = itertools.count()
        self._doubted: dict[str, float] = {}
        self._asking: weakref.WeakKeyDictionary[Connection, asyncio.Task[bool]] = (
            weakref.WeakKeyDictionary()
        )
        forks.watch(self)

    def doubt(self, address: str) -> None:
        """Prefer others until it can serve: it is silent, or about to stop."""
        self._doubted[address] = time.monotonic()

    def trust(self, address: str) -> None:
        """It has answered."""
        self._doubted.pop(address, None)

    def _doubt_of(self, connection: Connection) -> float:
        """When it came to be in doubt; 0 where it is not."""
        return self._doubted.get(connection.address, 0.0)

    def _ask_doubted(self, known: Iterable[Connection]) -> None:
        """Ask those that have been in doubt for long, beside the calls."""
        for one in known:
            if time.monotonic() - self._doubted.get(one.address, math.inf) > DOUBT_SECONDS:
                self._asked(one)

    @property
    def count(self) -> int:
        """How many orchestrators are known to the running loop."""
        dialed = self._of_loop.get(asyncio.get_running_loop())
        return len(dialed.connections if dialed is not None else self._orchestrators.targets)

    async def take(self, without: Connection | None = None) -> Connection:
        """One of the running loop's for a call, `done` after it: each in turn.

        Those that are connected come first, of them those in doubt last. without: one that is
        taken only where it is the only one.
        """
        loop = asyncio.get_running_loop()
        dialed = self._of_loop.get(loop) or await self._dial(loop)
        self._calls[loop] += 1
        try:
            self._renew_later(dialed)
            self._ask_doubted(dialed.connections)
            known = [one for one in dialed.connections if one is not without] or dialed.connections
            first = next(self._turn) % len(known)
            turn = known[first:] + known[:first]
            usable = turn if len(turn) == 1 else await _usable(turn, everyone=not dialed.settled)
            dialed.settled = True
            return min(usable, key=self._doubt_of)
        except BaseException:
            self._calls[loop] -= 1
            raise

    async def answers(self, connection: Connection, seconds: float) -> bool:
        """Whether it answers within so many seconds. All who ask at once ask once."""
        asking = self._asked(connection)
        await asyncio.wait({asking}, timeout=seconds)
        return asking.done() and not asking.cancelled() and asking.result()

    def _asked(self, connection: Connection) -> "asyncio.Task[bool]":
        asking = self._asking.get(connection)
        if asking is None or asking.done():
            asking = self._asking[connection] = asyncio.create_task(self._ask(connection))
        return asking

    async def diagnosed(
        self, error: PacelineError, seconds: float | None = None
    ) -> Diagnosis | None:
        """What a look says of an error; None of others than that nobody answers.

        Behind a proxy nothing can be seen.
        """
        if not isinstance(error, NobodyThere) or self._proxy:
            return None
        dialer = Dialer.of(self._access, tls=self._orchestrators.tls)
        return await look(error.target, dialer, seconds)

    def done(self) -> None:
        """A call is over. Who made it keeps no connection: see forks."""
        loop = asyncio.get_running_loop()
        self._calls[loop] -= 1
        if self._calls[loop] <= 0:  # below it, where they were closed under the call
            del self._calls[loop]

    async def _ask(self, connection: Connection) -> bool:
        self._calls[asyncio.get_running_loop()] += 1
        try:
            serves = await connection.can_serve()
            if serves:
                self.trust(connection.address)
            return serves
        finally:
            self.done()
            del connection

    async def close(self) -> None:
        """Close the running loop's; the next call dials anew."""
        loop = asyncio.get_running_loop()
        self._calls.pop(loop, None)
        if (dialed := self._of_loop.pop(loop, None)) is None:
            return
        if dialed.renewing is not None:
            dialed.renewing.cancel()
        for connection in dialed.connections:
            await connection.channel.close()

    def before_fork(self) -> None:
        """Let go of what is not in use: a process is not forked well with channels open."""
        running = asyncio._get_running_loop()
        for loop in list(self._of_loop):
            if loop.is_closed() or (loop is running and not self._calls[loop]):
                del self._of_loop[loop]

    def after_fork(self) -> list[object]:
        """In the child: begin with nothing. Returns what must never be touched again."""
        left: list[object] = [self._of_loop]
        self._of_loop, self._calls = {}, Counter()
        return left

    async def _dial(self, loop: asyncio.AbstractEventLoop) -> _Dialed:
        forks.check()
        for other in [one for one in self._of_loop if one.is_closed()]:
            self._of_loop.pop(other, None)
            self._calls.pop(other, None)
        found = await self._resolved()
        if (dialed := self._of_loop.get(loop)) is None:  # nor has another call dialed meanwhile
            dialed = self._of_loop[loop] = _Dialed([self._connection(*one) for one in found])
        return dialed

    async def _resolved(self) -> list[tuple[str, str]]:
        """Names, each with an address. A proxy resolves by itself."""
        targets = self._orchestrators.targets
        if self._proxy:
            return [(target, target) for target in targets]
        found = await asyncio.gather(*map(names.addresses, targets))
        of_targets = zip(targets, found, strict=True)
        return [(target, address) for target, some in of_targets for address in some]

    def _renew_later(self, dialed: _Dialed) -> None:
        """Resolve names anew, once it is time. No call waits for that."""
        old = time.monotonic() - dialed.resolved > RESOLVE_SECONDS
        changes = not self._proxy and any(map(names.may_change, self._orchestrators.targets))
        if old and changes and (dialed.renewing is None or dialed.renewing.done()):
            dialed.renewing = asyncio.create_task(self._renew())

    async def _renew(self) -> None:
        """What a name stands for no longer is closed once its last stream has ended."""
        found = await self._resolved()
        dialed = self._of_loop.get(asyncio.get_running_loop())
        if dialed is not None:  # see forks
            known = {(one.target, one.address): one for one in dialed.connections}
            dialed.connections = [known.get(one) or self._connection(*one) for one in found]
            dialed.resolved = time.monotonic()

    def _connection(self, target: str, address: str) -> Connection:
        channel = self._channel(target, address)
        forks.opened(channel)
        shown = self._access.wrap(channel)
        return Connection(
            target,
            address,
            channel,
            self._orchestrators.tls,
            generation_pb2_grpc.GenerationServiceStub(shown),
            status_pb2_grpc.StatusServiceStub(shown),
        )

    def _channel(self, target: str, address: str) -> grpc.aio.Channel:
        options: Options = [
            *channel_options(CLIENT_ANSWER_BYTES, self._proxy),
            ("grpc.service_config", _SERVICE_CONFIG),
        ]
        if names.may_change(target) and address != target:
            name = target.rpartition("/")[2]
            options.append(("grpc.default_authority", name))
            options.append(("grpc.ssl_target_name_override", split(name)[0]))
        if not self._orchestrators.tls:
            return grpc.aio.insecure_channel(address, options=options)
        return grpc.aio.secure_channel(address, self._access.credentials(), options=options)


async def _usable(some: Collection[Connection], *, everyone: bool) -> list[Connection]:
    """Those that are connected; where none is soon, those that may be yet, else all.

    everyone: all are waited for, until they are connected or cannot be.
    """
    states: dict[Connection, grpc.ChannelConnectivity] = {}
    for _ in range(round(CONNECT_SECONDS / _LOOK_SECONDS)):
        states = {one: one.state for one in some}
        ready = _in(states, grpc.ChannelConnectivity.READY)
        waits = _in(states, grpc.ChannelConnectivity.IDLE, grpc.ChannelConnectivity.CONNECTING)
        if not waits or (ready and not everyone):
            break
        await asyncio.sleep(_LOOK_SECONDS)
    return ready or waits or list(some)


def _in(
    states: dict[Connection, grpc.ChannelConnectivity], *wanted: grpc.ChannelConnectivity
) -> list[Connection]:
    return [one for one, state in states.items() if state in wanted]
