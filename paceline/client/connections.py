"""Connections of a client: dialed when first needed, in each event loop and process its own."""

import asyncio
import itertools
import json
import math
import time
from collections import Counter
from dataclasses import dataclass
from urllib.parse import unquote

import grpc

from paceline.client import forks
from paceline.client.access import Access
from paceline.client.addresses import Orchestrators
from paceline.errors import DeadlineExceeded, PacelineError, Unavailable
from paceline.rpc.options import Options, channel_options
from paceline.rpc.status_codes import from_rpc_error
from paceline.v1 import generation_pb2_grpc, status_pb2_grpc

_SERVICE_CONFIG = json.dumps({"loadBalancingConfig": [{"round_robin": {}}]})
DOUBT_SECONDS = 5.0
"""So long an orchestrator that was silent, or about to stop, is not preferred."""
_BY_CLIENT = "Deadline Exceeded"
"""So gRPC says that the deadline of a call passed here, before the server could say it."""
_NOT_CONNECTED = ("failed to connect", "connections to all backends failing")
_NOBODY = (*_NOT_CONNECTED, "DNS resolution failed", "errors resolving")
"""How gRPC begins what it says where there is no server."""


@dataclass(frozen=True)
class Connection:
    """A channel to the addresses of one name; calls go round among them."""

    target: str
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
            return Unavailable(
                f"nobody answers at {self.target}: {why}{_advice(why, tls=self.tls)}"
            )
        if isinstance(found, DeadlineExceeded) and _BY_CLIENT in str(found):
            return DeadlineExceeded(f"{self.target} had not answered in full within the timeout")
        return found

    @property
    def broken(self) -> bool:
        """Whether it could not be made when last tried."""
        return self.channel.get_state() is grpc.ChannelConnectivity.TRANSIENT_FAILURE


class Connections:
    """Those of one client, to all of its orchestrators."""

    def __init__(self, orchestrators: Orchestrators, proxy: str, access: Access) -> None:
        """Dials nothing yet."""
        self._orchestrators = orchestrators
        self._proxy = proxy
        self._access = access
        self._of_loop: dict[asyncio.AbstractEventLoop, list[Connection]] = {}
        self._calls: Counter[asyncio.AbstractEventLoop] = Counter()
        self._turn = itertools.count()
        self._doubted: dict[str, float] = {}
        forks.watch(self)

    def doubt(self, target: str) -> None:
        """Prefer others for a while: it is silent, or about to stop."""
        self._doubted[target] = time.monotonic()

    def trust(self, target: str) -> None:
        """It has answered."""
        self._doubted.pop(target, None)

    def _doubt_of(self, connection: Connection) -> float:
        """When it came to be in doubt; 0 where that is long ago, or never was."""
        since = self._doubted.get(connection.target, -math.inf)
        return since if time.monotonic() - since < DOUBT_SECONDS else 0.0

    @property
    def count(self) -> int:
        """How many orchestrators are named."""
        return len(self._orchestrators.targets)

    def take(self) -> Connection:
        """One of the running loop's for a call, `done` after it: each in turn.

        Those in doubt come behind, the last one last, and broken ones behind all.
        """
        loop = asyncio.get_running_loop()
        known = self._of_loop.get(loop) or self._dial(loop)
        first = next(self._turn) % len(known)
        turn = known[first:] + known[:first]
        self._calls[loop] += 1
        whole = [one for one in turn if not one.broken] or turn[:1]
        return min(whole, key=self._doubt_of)

    def done(self) -> None:
        """A call is over. Who made it keeps no connection: see forks."""
        self._calls[asyncio.get_running_loop()] -= 1

    async def close(self) -> None:
        """Close the running loop's; the next call dials anew."""
        loop = asyncio.get_running_loop()
        self._calls.pop(loop, None)
        for connection in self._of_loop.pop(loop, []):
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

    def _dial(self, loop: asyncio.AbstractEventLoop) -> list[Connection]:
        forks.check()
        for other in [one for one in self._of_loop if one.is_closed()]:
            self._of_loop.pop(other, None)
            self._calls.pop(other, None)
        self._of_loop[loop] = [self._connection(one) for one in self._orchestrators.targets]
        return self._of_loop[loop]

    def _connection(self, target: str) -> Connection:
        channel = self._channel(target)
        forks.opened(channel)
        shown = self._access.wrap(channel)
        return Connection(
            target,
            channel,
            self._orchestrators.tls,
            generation_pb2_grpc.GenerationServiceStub(shown),
            status_pb2_grpc.StatusServiceStub(shown),
        )

    def _channel(self, target: str) -> grpc.aio.Channel:
        options: Options = [*channel_options(self._proxy), ("grpc.service_config", _SERVICE_CONFIG)]
        if not self._orchestrators.tls:
            return grpc.aio.insecure_channel(target, options=options)
        return grpc.aio.secure_channel(target, self._access.credentials(), options=options)


def _advice(why: str, *, tls: bool) -> str:
    """What to look at. gRPC tells one address's error: ::1 refuses where 127.0.0.1 wants TLS."""
    if tls:
        return "; over TLS its certificate must be for that name, and signed by one of ca"
    dialed = why.startswith(_NOT_CONNECTED)
    return "; is it running, and does it speak TLS (grpcs://)?" if dialed else ""
