"""What is said, and how soon, where nobody answers: each reason that a look can tell."""

import asyncio
import os
import socket
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest

from paceline.client import Client
from paceline.client import diagnosis as module
from paceline.client.diagnosis import Dialer, NobodyThere, explained, look
from paceline.errors import FailedPrecondition, Unavailable
from paceline.rpc.doors import Doors
from paceline.rpc.tls import ServerTls
from paceline_tools.cli.__main__ import main
from paceline_tools.cli.asked import asking
from paceline_tools.cli.doctor import examine
from tests import servers
from tests.certificates import Authority, authority, expired

SIMULATED = "simulated:step_ms=1"


async def models(client: Client) -> object:
    return await client.models()


async def output(client: Client) -> object:
    return await client.generate("x").result()


asks = pytest.mark.parametrize("ask", [models, output])
Ask = Callable[[Client], Awaitable[object]]


@pytest.fixture
def signer(tmp_path: Path) -> Authority:
    return authority(tmp_path / "signer")


@asynccontextmanager
async def listening(doors: Doors | None = None) -> AsyncIterator[int]:
    """The port of a server."""
    async with servers.target(SIMULATED, **({"doors": doors} if doors else {})) as target:
        yield int(target.address.rpartition(":")[2])


async def told(address: str, ask: Ask, **how: Any) -> str:
    """With retries, which are not made where they cannot help."""
    async with Client(address, **how) as client:
        with pytest.raises(Unavailable) as raised:
            await ask(client)
    assert type(raised.value) is Unavailable
    assert isinstance(raised.value.__cause__, grpc.RpcError | Unavailable)
    return str(raised.value)


@pytest.fixture
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    """What would be tried again fails the test."""

    async def pause(*_: object) -> None:
        raise AssertionError("tried again")

    monkeypatch.setattr("paceline.client.retry.Backoff.pause", pause)


@asks
@pytest.mark.usefixtures("no_pauses")
async def test_plaintext_is_named_at_once_where_tls_was_asked_for(ask: Ask) -> None:
    async with listening() as port:
        said = await told(f"grpcs://localhost:{port}", ask)
    assert said == f"localhost:{port} speaks plaintext: leave out grpcs://"


@asks
@pytest.mark.usefixtures("no_pauses")
async def test_tls_is_named_at_once_where_plaintext_was(ask: Ask, signer: Authority) -> None:
    async with listening(Doors(ServerTls(signer.issue("localhost")))) as port:
        said = await told(f"localhost:{port}", ask)
    assert said == f"localhost:{port} speaks TLS: put grpcs:// in front"


@asks
@pytest.mark.usefixtures("no_pauses")
async def test_a_certificate_that_is_not_trusted(ask: Ask, signer: Authority) -> None:
    async with listening(Doors(ServerTls(signer.issue("localhost")))) as port:
        said = await told(f"grpcs://localhost:{port}", ask)
    assert said == (
        f"localhost:{port} has a certificate that is not trusted (unable to get local issuer "
        "certificate): --ca (or PACELINE_CA, ca= in Python) names who signs for it"
    )


@asks
@pytest.mark.usefixtures("no_pauses")
async def test_a_certificate_for_another_name(ask: Ask, signer: Authority) -> None:
    mine = signer.issue("one.example", "10.1.2.3", "two.example")
    async with listening(Doors(ServerTls(mine))) as port:
        said = [
            await told(f"grpcs://{host}:{port}", ask, ca=signer.path)
            for host in ("localhost", "127.0.0.1")
        ]
    assert said == [
        f"{host}:{port} has a certificate for 10.1.2.3, one.example, two.example, not for {host}: "
        "ask for it by a name that its certificate has"
        for host in ("localhost", "127.0.0.1")
    ]


@pytest.mark.usefixtures("no_pauses")
async def test_a_certificate_that_expired(signer: Authority) -> None:
    mine = signer.issue("localhost", until=expired())
    shown = [(mine.key.read_bytes(), mine.certificate.read_bytes())]
    server = grpc.aio.server()  # ours would not start with it
    port = server.add_secure_port("localhost:0", grpc.ssl_server_credentials(shown))
    await server.start()
    said = await told(f"grpcs://localhost:{port}", output, ca=signer.path)
    await server.stop(None)
    assert said == (
        f"localhost:{port} has a certificate that is expired: who runs it must renew it, or the "
        "clock of this machine is wrong"
    )


async def test_a_server_that_asks_for_a_certificate(signer: Authority, tmp_path: Path) -> None:
    mutual = Doors(ServerTls(signer.issue("localhost"), signer.path))
    stranger = authority(tmp_path / "stranger").issue("me")
    shown: dict[str, Any] = {"certificate": stranger.certificate, "key": stranger.key}
    async with listening(mutual) as port:
        address = f"grpcs://localhost:{port}"
        none = await told(address, models, ca=signer.path)
        wrong = await told(address, output, ca=signer.path, retries=0, **shown)
    assert none == (
        f"localhost:{port} asks for a certificate: --certificate and --key (or "
        "PACELINE_CERTIFICATE and PACELINE_KEY, certificate= and key= in Python) name what to show"
    )
    assert wrong == (
        f"nobody answers at localhost:{port}: it asks for a certificate, and may not trust the one "
        "shown; is that signed by one it trusts, and not expired (--certificate, certificate= in "
        "Python)?"
    )


@pytest.fixture
def free() -> int:
    """A port where nobody listens."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        port: int = bound.getsockname()[1]
        return port


@asks
@pytest.mark.parametrize("scheme", ["", "grpcs://"])
@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "ipv4:127.0.0.1"])
async def test_nobody_listens(ask: Ask, scheme: str, host: str, free: int) -> None:
    said = await told(f"{scheme}{host}:{free}", ask, retries=0)
    assert said == f"nobody answers at {host}:{free}: connection refused; is it running?"


async def test_a_command_says_how_it_is_run(free: int) -> None:
    with pytest.raises(Unavailable) as raised:
        async with asking(f"localhost:{free}") as client:
            await client.models()
    assert str(raised.value) == (
        f"nobody answers at localhost:{free}: connection refused; is it running? paceline up, or "
        "python -m orchestrator"
    )
    found = (await examine(f"localhost:{free}"))[-1]
    assert found.what == f"nobody answers at localhost:{free}: connection refused"
    assert found.advice == "is it running? paceline up, or python -m orchestrator"


async def test_a_command_says_it_in_a_line_and_grpc_says_nothing(
    signer: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("GRPC_VERBOSITY", raising=False)
    async with listening() as plain, listening(Doors(ServerTls(signer.issue("localhost")))) as tls:
        said = [
            await stderr("generate", "hi", f"--address={one}")
            for one in (f"grpcs://localhost:{plain}", f"localhost:{tls}")
        ]
    assert said == [
        f"paceline: localhost:{plain} speaks plaintext: leave out grpcs://\n",
        f"paceline: localhost:{tls} speaks TLS: put grpcs:// in front\n",
    ]


async def stderr(*arguments: str) -> str:
    """What a command writes there."""
    command = (sys.executable, "-m", "paceline_tools.cli", *arguments)
    process = await asyncio.create_subprocess_exec(*command, stderr=asyncio.subprocess.PIPE)
    _, said = await process.communicate()
    return said.decode()


@pytest.mark.parametrize("verbosity", ["", "debug"])
def test_how_much_grpc_says_is_the_users_to_choose(
    verbosity: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("paceline_tools.cli.app.main", lambda: None)
    monkeypatch.setenv("GRPC_VERBOSITY", verbosity)
    if not verbosity:
        monkeypatch.delenv("GRPC_VERBOSITY")
    main()
    assert os.environ.pop("GRPC_VERBOSITY") == (verbosity or "NONE")


async def test_a_name_that_stands_for_nothing() -> None:
    said = await told("no-such-host.invalid:7070", models)
    assert said.startswith("nobody answers at no-such-host.invalid:7070: the name does not resolve")
    assert said.endswith("; is it spelt right?")


async def test_it_is_looked_at_twice_at_most_however_often_it_is_tried(
    free: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks: list[str] = []

    async def counted(target: str, *_: object) -> None:
        looks.append(target)

    monkeypatch.setattr("paceline.client.connections.look", counted)
    monkeypatch.setattr("paceline.client.retry.FIRST_PAUSE_SECONDS", 0.001)
    said = await told(f"127.0.0.1:{free}", output, retries=5)
    assert looks == [f"127.0.0.1:{free}"] * 2
    assert said == f"nobody answers at 127.0.0.1:{free}: connection refused; is it running?"


async def test_what_takes_connections_and_is_silent_is_left_to_what_grpc_says(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "LOOK_SECONDS", 0.05)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"127.0.0.1:{silent.getsockname()[1]}"
        for tls in (False, True):
            assert await look(address, Dialer(tls)) is None


@pytest.mark.parametrize("target", ["unix:/run/x:1", "unix-abstract:x", "dns://8.8.8.8/a:1", "x"])
async def test_what_only_grpc_can_dial_is_not_looked_at(target: str) -> None:
    assert await look(target, Dialer(tls=False)) is None


def test_what_grpc_repeats_is_left_out() -> None:
    said = (
        "connections to all backends failing; last error: UNKNOWN: ipv4:127.0.0.1:7070: Failed to "
        "connect to remote host: Connection refused"
    )
    nobody = NobodyThere("here:7070", said)
    assert str(nobody) == "nobody answers at here:7070: connection refused; is it running?"
    assert type(explained(nobody, None)) is Unavailable
    other = NobodyThere("here:7070", "failed to connect to all addresses; last error: x y")
    assert str(other) == "nobody answers at here:7070: x y; is it running?"


async def test_another_server_is_still_named() -> None:
    async with listening() as port:
        with pytest.raises(FailedPrecondition, match="is a target server"):
            async with asking(f"127.0.0.1:{port}") as client:
                await client.models()
