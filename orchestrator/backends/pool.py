"""A pool of servers: which there are, what they serve, and which one to pick."""

import asyncio
from collections.abc import Callable, Collection, Iterable

import structlog

from orchestrator.backends.dialing import Dialing
from orchestrator.backends.replica import POLL_SECONDS, Replica, least_loaded
from paceline.best_effort import best_effort
from paceline.errors import Unavailable
from paceline.protocol.model import ModelInfo
from paceline.rpc.channels import resolve
from paceline.rpc.options import TARGET_ANSWER_BYTES
from paceline.rpc.tls import ClientTls

_log = structlog.get_logger(__name__)

RESOLVE_SECONDS = 5.0
"""Names are resolved anew this often."""
LOST_SECONDS = 0.1
"""One that does not answer, or that a session was lost on, is asked again so soon: streams may wait
for it to come back."""


async def _poll(replica: Replica) -> None:
    with best_effort(f"asking the server at {replica.address}"):
        await replica.poll()


class Pool:
    """The servers behind some addresses, each name standing for all it resolves to."""

    def __init__(
        self,
        addresses: Iterable[str],
        service: str = "",
        tls: ClientTls | None = None,
        answer_bytes: int = TARGET_ANSWER_BYTES,
    ) -> None:
        """Know of no server yet.

        service: what each has to serve, by its full name. answer_bytes: of the largest message
        that is taken.
        """
        self._service = service
        self._dialing = Dialing(tls, answer_bytes)
        self.addresses = tuple(addresses)
        self._resolved: dict[str, set[str]] = {name: set() for name in self.addresses}
        self._unresolved: dict[str, str] = {}
        self._replicas: dict[str, Replica] = {}
        self._replaced: list[Replica] = []
        self._servers: list[Replica] = []
        self._asking: dict[Replica, asyncio.Task[None]] = {}

    @property
    def all(self) -> list[Replica]:
        """Every server an address of which is known, each once."""
        return list(self._servers)

    @property
    def ready(self) -> list[Replica]:
        """Servers that sessions can be opened on."""
        return [replica for replica in self.all if replica.ready]

    @property
    def unresolved(self) -> dict[str, str]:
        """Why names do not resolve, of those that do not."""
        return dict(self._unresolved)

    @property
    def hindrances(self) -> list[str]:
        """What keeps names and servers from being ready, one for each that is not."""
        return [*self._unresolved.values(), *(why for one in self.all if (why := one.hindrance))]

    async def watch(self) -> None:
        """Keep resolving and polling until cancelled; closes all channels then."""
        try:
            while True:
                with best_effort("looking for servers"):
                    await self._resolve()
                    await self._renew()
                    await self._close_retired()
                await self._ask_for(RESOLVE_SECONDS)
        finally:
            for asking in self._asking.values():
                asking.cancel()
            replicas = [*self._replicas.values(), *self._replaced]
            await asyncio.gather(*(replica.channel.close() for replica in replicas))

    async def _ask_for(self, seconds: float) -> None:
        """Ask each server when it is due, for so long. A silent one holds up none of the others."""
        now = asyncio.get_running_loop().time
        until = now() + seconds
        while now() < until:
            for replica in self._replicas.values():
                pause = LOST_SECONDS if replica.health.misses else POLL_SECONDS
                if replica not in self._asking and now() - replica.health.asked_at >= pause:
                    self._asking[replica] = asyncio.create_task(self._ask(replica))
            await asyncio.sleep(min(POLL_SECONDS, LOST_SECONDS))

    async def _ask(self, replica: Replica) -> None:
        """One that answers nonsense does not disturb the others."""
        try:
            await _poll(replica)
        finally:
            replica.health.asked_at = asyncio.get_running_loop().time()
            del self._asking[replica]
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
        """A process that answers at two addresses is one server, at the first of them."""
        spare = {address for name in self._resolved.values() for address in self._spare(name)}
        servers: dict[str, Replica] = {}
        for address, replica in self._replicas.items():
            if address not in spare:
                servers.setdefault(replica.process or address, replica)
        self._servers = list(servers.values())

    def _spare(self, addresses: set[str]) -> set[str]:
        """Addresses that do not answer, where those of the other IP family do.

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
                self._unresolved.pop(name, None)
            except Unavailable as error:  # those it stood for until now may well be alive
                if self._unresolved.get(name) != str(error):  # once, not every RESOLVE_SECONDS
                    _log.warning("name not resolved", name=name, reason=str(error))
                self._unresolved[name] = str(error)
        found = set().union(*self._resolved.values())
        for address in sorted(found - self._replicas.keys()):
            self._replicas[address] = self._dialed(address)
        for address, replica in self._replicas.items():
            replica.health.retired = address not in found
        self._tell_apart()

    def _dialed(self, address: str) -> Replica:
        names = (name for name, found in self._resolved.items() if address in found)
        channel = self._dialing.open(address, next(names, address))
        return Replica(address, channel, service=self._service)

    async def _renew(self) -> None:
        """Dial all anew where certificates have changed; streams end on the old connections.

        A channel that reconnects by itself shows the certificate it began with.
        """
        if not self._dialing.changed():
            return
        fresh = [self._dialed(address) for address in self._replicas]
        await asyncio.gather(*(_poll(replica) for replica in fresh))
        for replica in fresh:
            self._replaced.append(self._replicas[replica.address])
            self._replicas[replica.address] = replica
        self._tell_apart()
        _log.info("servers dialed anew", addresses=sorted(self._replicas))

    async def _close_retired(self) -> None:
        """Close channels of servers whose names are gone, once their streams have ended."""
        for replica in list(self._replicas.values()):
            if replica.health.retired and not replica.sessions:
                del self._replicas[replica.address]
                self._tell_apart()
                await replica.channel.close()
        for replica in [one for one in self._replaced if not one.sessions]:
            self._replaced.remove(replica)
            await replica.channel.close()
