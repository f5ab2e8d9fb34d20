"""Several hosts on one machine: drafts scaled and targets rolled under load, over mutual TLS.

python -m benchmarks.hosts, as root: the orchestrator, targets, drafts and clients each have a
network namespace and addresses of their own; packets to targets and drafts are delayed.
"""

import asyncio
import contextlib
import ctypes
import fcntl
import os
import queue
import shutil
import signal
import socket
import ssl
import struct
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import trustme

from benchmarks.simulated import ROOM
from paceline.client import Client
from paceline.errors import PacelineError
from paceline.protocol.generation import GenerateRequest, Speculation
from paceline.protocol.sampling import SamplingParams
from paceline.protocol.status import Role

PREFIX = "paceline-"
HOME = "10.99.3.1"
"""The orchestrator's address as clients have it."""
LINKS = {"target": ("10.99.1", 0.001), "draft": ("10.99.2", 0.005)}
"""What stands before the last number of addresses, and the delay each way, in seconds."""
MODELS = {
    "target": "simulated:step_ms=20,token_ms=0.05",
    "draft": "simulated:step_ms=2,acceptance=0.8",
}
CLONE_NEWNET = 0x40000000
TUNSETIFF, TUN = 0x400454CA, 0x1001
START_SECONDS, TRAFFIC_SECONDS = 120.0, 30.0
STREAMS, TOKENS = 12, 60


def ran(command: str) -> None:
    """Run a command; where it fails this ends, with what it says."""
    done = subprocess.run(  # noqa: S603 - commands of this file
        command.split(), check=False, capture_output=True, text=True, timeout=30
    )
    if done.returncode:
        sys.exit(f"{command}: {done.stderr.strip()}")


@contextlib.contextmanager
def within(host: str) -> Iterator[None]:
    """What this thread opens is of the host's network."""
    with contextlib.ExitStack() as files:
        here = files.enter_context(Path("/proc/thread-self/ns/net").open())
        there = files.enter_context(Path(f"/run/netns/{PREFIX}{host}").open())
        _enter(there.fileno())
        try:
            yield
        finally:
            _enter(here.fileno())


def _enter(namespace: int) -> None:
    if ctypes.CDLL(None, use_errno=True).setns(namespace, CLONE_NEWNET):
        raise OSError(ctypes.get_errno(), "setns")


def _tun(host: str, name: str, addresses: list[str]) -> int:
    """The end of a link in a host, with its addresses."""
    with within(host):
        file = os.open("/dev/net/tun", os.O_RDWR)
        fcntl.ioctl(file, TUNSETIFF, struct.pack("16sH22x", name.encode(), TUN))
    for address in addresses:
        ran(f"ip -n {PREFIX}{host} address add {address}/24 dev {name}")
    ran(f"ip -n {PREFIX}{host} link set {name} up")
    return file


def _relay(source: int, sink: int, delay: float) -> None:
    """Hand packets from one end to the other, each after the delay."""
    packets: queue.Queue[tuple[float, bytes]] = queue.Queue(10_000)

    def read() -> None:
        while True:
            packet = os.read(source, 65536)
            packets.put((time.monotonic() + delay, packet))

    def write() -> None:
        while True:
            due, packet = packets.get()
            time.sleep(max(0.0, due - time.monotonic()))
            with contextlib.suppress(OSError):
                os.write(sink, packet)

    for end in (read, write):
        threading.Thread(target=end, daemon=True).start()


@contextlib.contextmanager
def network() -> Iterator[None]:
    """Four hosts; the orchestrator's is in the middle, and hands nothing on."""
    hosts = ("orchestrator", "target", "draft", "client")
    _remove(hosts)
    try:
        for host in hosts:
            ran(f"ip netns add {PREFIX}{host}")
            ran(f"ip -n {PREFIX}{host} link set lo up")
            Path(f"/etc/netns/{PREFIX}{host}").mkdir(parents=True)
        for role, (net, delay) in LINKS.items():
            pair = (
                _tun("orchestrator", role, [f"{net}.1"]),
                _tun(role, "outside", [f"{net}.{number}" for number in range(11, 15)]),
            )
            _relay(*pair, delay)
            _relay(*pair[::-1], delay)
            ran(f"ip -n {PREFIX}{role} route add default via {net}.1")
        middle = f"{PREFIX}orchestrator"
        ran(f"ip -n {PREFIX}client link add outside type veth peer clients netns {middle}")
        ends = {("client", "outside"): "10.99.3.2", ("orchestrator", "clients"): HOME}
        for (host, link), address in ends.items():
            ran(f"ip -n {PREFIX}{host} address add {address}/24 dev {link}")
            ran(f"ip -n {PREFIX}{host} link set {link} up")
        ran(f"ip -n {PREFIX}client route add default via {HOME}")
        yield
    finally:
        _remove(hosts)


def _remove(hosts: tuple[str, ...]) -> None:
    for host in hosts:
        command = ["ip", "netns", "delete", f"{PREFIX}{host}"]
        subprocess.run(command, check=False, capture_output=True)  # noqa: S603 - as above
        shutil.rmtree(f"/etc/netns/{PREFIX}{host}", ignore_errors=True)


class Fleet:
    """Servers by name, and the names that the orchestrator finds them by."""

    def __init__(self, folder: Path) -> None:
        """None yet. folder: for certificates and logs."""
        self.folder = folder
        self.authority = trustme.CA()
        self.authority.cert_pem.write_to_path(str(folder / "ca.pem"))
        self.running: dict[str, subprocess.Popen[bytes]] = {}
        self.named: dict[str, list[int]] = {}
        for one, names in (("target", ["target"]), ("draft", ["draft"]), ("orchestrator", [HOME])):
            issued = self.authority.issue_cert(*names)
            issued.private_key_pem.write_to_path(str(folder / f"{one}.key"))
            issued.cert_chain_pems[0].write_to_path(str(folder / f"{one}.pem"))

    def start(self, role: str, number: int = 0) -> None:
        """Start a server at the address that ends so."""
        host = HOME if role == "orchestrator" else f"{LINKS[role][0]}.{number}"
        flags = [f"--host={host}", *self._doors(role)]
        if role == "orchestrator":
            flags += ["--target=target:7071", "--draft=draft:7072"]
        else:
            flags += [f"--model={MODELS[role]}", *ROOM, f"--tls-client-ca={self.folder}/ca.pem"]
        module = role if role == "orchestrator" else f"{role}_server"
        name = f"{role}-{number}"
        with (self.folder / f"{name}.log").open("wb") as log:
            self.running[name] = subprocess.Popen(  # noqa: S603 - our own servers
                [*f"ip netns exec {PREFIX}{role} {sys.executable} -m {module}".split(), *flags],
                stdout=log,
                stderr=log,
            )

    def _doors(self, role: str) -> list[str]:
        shown = [
            f"--tls-certificate={self.folder}/{role}.pem",
            f"--tls-key={self.folder}/{role}.key",
        ]
        return [*shown, *([f"--tls-server-ca={self.folder}/ca.pem"] * (role == "orchestrator"))]

    def stop(self, role: str, number: int = 0) -> None:
        """Stop it as a rollout does; it must exit with 0."""
        name = f"{role}-{number}"
        process = self.running.pop(name)
        process.send_signal(signal.SIGTERM)
        if code := process.wait(60):
            sys.exit(
                f"{name} exited with {code}:\n{(self.folder / f'{name}.log').read_text()[-2000:]}"
            )

    def kill(self) -> None:
        """End all that still runs."""
        for process in self.running.values():
            process.kill()
            process.wait()

    def name(self, **numbers: list[int]) -> None:
        """What names stand for from now on, on the orchestrator's host."""
        self.named = numbers
        lines = ["127.0.0.1 localhost"]
        for role, ends in numbers.items():
            lines += [f"{LINKS[role][0]}.{number} {role}" for number in ends]
        Path(f"/etc/netns/{PREFIX}orchestrator/hosts").write_text("\n".join(lines) + "\n")


class Traffic:
    """Streams that never cease, each compared with what the target alone gives."""

    def __init__(self, client: Client) -> None:
        """Nothing runs yet."""
        self.client = client
        self.expected: dict[str, tuple[int, ...]] = {}
        self.done = 0

    async def one(self, prompt: str, speculation: Speculation) -> tuple[int, ...]:
        """The tokens of one stream."""
        request = GenerateRequest(
            prompt,
            sampling=SamplingParams(temperature=0),
            max_tokens=TOKENS,
            ignore_eos=True,
            speculation=speculation,
        )
        return (await self.client.generate(request).result()).token_ids

    async def forever(self, prompt: str) -> None:
        """One stream after the other; raises where one breaks or differs."""
        while True:
            found = await self.one(prompt, Speculation.FORCE)
            if found != self.expected[prompt]:
                raise SystemExit(f"a stream has other tokens: {found} for {self.expected[prompt]}")
            self.done += 1

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Under it; what breaks ends the whole."""
        for index in range(STREAMS):
            self.expected[str(index)] = await self.one(str(index), Speculation.OFF)
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(self.forever(prompt)) for prompt in self.expected]
            yield
            for task in tasks:
                task.cancel()


async def eventually(condition: Callable[[], Awaitable[bool]], seconds: float, what: str) -> float:
    """Wait until it holds; how long that took. Ends this where it takes too long."""
    started = time.monotonic()
    while True:
        with contextlib.suppress(PacelineError):
            if await condition():
                return time.monotonic() - started
        if time.monotonic() - started > seconds:
            raise SystemExit(f"{what}: not within {seconds:g} s")
        await asyncio.sleep(0.1)


def addresses(role: str, numbers: list[int]) -> set[str]:
    """Of servers of a role, without their port."""
    return {f"{LINKS[role][0]}.{number}" for number in numbers}


async def at(client: Client, role: str, *, with_streams: bool) -> set[str]:
    """Where the orchestrator has servers that it reaches, or that have streams as well."""
    servers = [one for one in (await client.status()).of(Role(role)) if one.reachable]
    found = [one for one in servers if one.load.sessions or not with_streams]
    return {one.address.partition(":")[0] for one in found}


async def scale(fleet: Fleet, client: Client, wanted: dict[str, list[int]]) -> None:
    """Give the names these servers, new ones before old ones go, and stop the rest at once."""
    both = {role: sorted({*numbers, *fleet.named[role]}) for role, numbers in wanted.items()}
    for role, numbers in both.items():
        for number in numbers:
            if f"{role}-{number}" not in fleet.running:
                fleet.start(role, number)
    fleet.name(**both)
    for role, numbers in both.items():
        await reached(client, role, addresses(role, numbers))
    fleet.name(**wanted)
    for name in [*fleet.running]:
        role, _, ending = name.partition("-")
        if role in wanted and int(ending) not in wanted[role]:
            await asyncio.to_thread(fleet.stop, role, int(ending))
    for role, numbers in wanted.items():
        seconds = await under_load(client, role, addresses(role, numbers))
        print(f"  {role} {numbers}: each has had streams after {seconds:.1f} s", flush=True)


async def reached(client: Client, role: str, wanted: set[str]) -> None:
    """Wait until the orchestrator reaches all of them."""

    async def found() -> bool:
        return await at(client, role, with_streams=False) >= wanted

    await eventually(found, START_SECONDS, f"{role}s {wanted} reached")


async def under_load(client: Client, role: str, wanted: set[str]) -> float:
    """Wait until each has had streams; the seconds that took."""
    seen: set[str] = set()

    async def found() -> bool:
        seen.update(await at(client, role, with_streams=True))
        return seen >= wanted

    return await eventually(found, TRAFFIC_SECONDS, f"{role}s {wanted} with streams")


def refused(fleet: Fleet) -> None:
    """From the client's host neither target nor draft is reached, nor spoken to without a key."""
    for role, port in (("target", 7071), ("draft", 7072)):
        address = (f"{LINKS[role][0]}.11", port)
        with within("client"):
            _expect_refused(address, fleet, "by the network")
        with within("orchestrator"):
            _expect_refused(address, fleet, "by mutual TLS")


def _expect_refused(address: tuple[str, int], fleet: Fleet, how: str) -> None:
    context = ssl.create_default_context(cafile=str(fleet.folder / "ca.pem"))
    context.check_hostname = False
    context.set_alpn_protocols(["h2"])
    try:
        with socket.create_connection(address, 3) as plain, context.wrap_socket(plain) as door:
            door.settimeout(3)
            door.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
            if door.recv(1):
                raise SystemExit(f"{address} answered one without a certificate")
    except OSError:
        pass
    print(f"  {address[0]} refuses {how}", flush=True)


async def main() -> None:
    """Scale drafts 1, 3, 0, 1 and roll the targets."""
    if os.geteuid():
        sys.exit("needs root, for network namespaces")
    with tempfile.TemporaryDirectory(prefix="paceline-") as name, network():
        fleet = Fleet(Path(name))
        try:
            await checked(fleet)
        finally:
            fleet.kill()


async def checked(fleet: Fleet) -> None:
    """All of it, with the orchestrator and its first servers."""
    fleet.name(draft=[11], target=[11])
    fleet.start("target", 11)
    fleet.start("draft", 11)
    fleet.start("orchestrator")
    files: dict[str, Any] = {"ca": fleet.folder / "ca.pem"}
    _enter(os.open(f"/run/netns/{PREFIX}client", os.O_RDONLY))
    async with Client(f"grpcs://{HOME}:7070", retries=0, **files) as client:

        async def ready() -> bool:
            return any(model.drafts for model in await client.models())

        print(
            f"ready after {await eventually(ready, 60, 'a model with a draft'):.1f} s", flush=True
        )
        refused(fleet)
        traffic = Traffic(client)
        async with traffic.running():
            for drafts, targets in (
                ([11], [11]),
                ([11, 12, 13], [11]),
                ([], [11]),
                ([11], [11]),
                ([11], [12]),
                ([11], [13, 14]),
            ):
                print(f"drafts {drafts}, targets {targets}", flush=True)
                await scale(fleet, client, {"draft": drafts, "target": targets})
        print(f"{traffic.done} streams of {TOKENS} tokens, none broken, all as the target alone")


if __name__ == "__main__":
    asyncio.run(main())
