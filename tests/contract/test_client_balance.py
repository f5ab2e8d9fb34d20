"""A client of several orchestrators: round robin, TLS, and streams that go on with another one."""

import contextlib
import subprocess
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import grpc
import pytest

from paceline.client import Client, connections, names
from paceline.client.access import system_roots
from paceline.errors import Unavailable
from paceline.protocol.generation import GenerateRequest
from paceline.v1 import generation_pb2, generation_pb2_grpc
from tests import servers
from tests.tiny_models import tiny_model

REQUEST = GenerateRequest("go on", seed=1, max_tokens=200, ignore_eos=True)


@pytest.fixture
async def two(tmp_path: Path) -> AsyncIterator[tuple[Client, Client]]:
    """Clients of two orchestrators that share a target."""
    async with (
        servers.target(tiny_model(tmp_path)) as target,
        servers.orchestrator([target.address], []) as one,
        servers.orchestrator([target.address], []) as other,
    ):
        yield one, other


async def served(client: Client) -> int:
    return (await client.status()).totals.streams


async def test_streams_go_round_the_addresses_that_are_named(two: tuple[Client, Client]) -> None:
    one, other = two
    async with Client(f"{one.address},{other.address}") as both:
        for _ in range(6):
            await both.generate("x").result()
    assert [await served(one), await served(other)] == [3, 3]


async def test_streams_go_round_the_addresses_of_one_name(two: tuple[Client, Client]) -> None:
    """Those of a headless service."""
    one, other = two
    async with Client(f"ipv4:{one.address},{other.address}") as both:

        async def both_serve() -> bool:
            await both.generate(GenerateRequest("x", max_tokens=1)).result()
            return await served(one) > 2 and await served(other) > 2

        await servers.eventually(both_serve)
    assert abs(await served(one) - await served(other)) <= 2 + 2


def stands_for(monkeypatch: pytest.MonkeyPatch, addresses: Sequence[str]) -> None:
    """Have every name stand for these, looked up again for each call."""

    async def resolve(_: str) -> list[str]:
        return list(addresses)

    monkeypatch.setattr(names, "resolve", resolve)
    monkeypatch.setattr(connections, "RESOLVE_SECONDS", 0.0)


async def test_a_name_may_come_to_stand_for_other_addresses(
    two: tuple[Client, Client], monkeypatch: pytest.MonkeyPatch
) -> None:
    one, other = two
    addresses = [one.address, "127.0.0.1:1"]
    stands_for(monkeypatch, addresses)
    async with Client("a-name:7070") as client:
        tokens: list[int] = []
        async for delta in client.generate(REQUEST):  # at the first one, to its end
            tokens += [token.id for token in delta.tokens]
            if addresses[0] != other.address:
                addresses[0] = other.address
                await servers.eventually(lambda: asks(client, other))
        assert tuple(tokens) == (await one.generate(REQUEST).result()).token_ids


async def asks(client: Client, other: Client) -> bool:
    """Whether the client's next call is the other's."""
    before = await served(other)
    await client.generate(GenerateRequest("x", max_tokens=1)).result()
    return await served(other) > before


async def test_what_is_not_there_is_left_out(two: tuple[Client, Client]) -> None:
    async with Client(f"127.0.0.1:1,{two[0].address}", retries=1) as client:
        for _ in range(4):
            assert await client.models() == await two[0].models()
            await client.generate("x").result()
    async with Client("127.0.0.1:1,127.0.0.1:2", retries=0) as client:
        with pytest.raises(Unavailable, match=r"^nobody answers at 127\.0\.0\.1:[12]: "):
            await client.models()
    async with Client("no-such-host.invalid", retries=0) as client:
        with pytest.raises(Unavailable, match=r"^nobody answers at no-such-host\.invalid:7070: "):
            await client.generate("x").result()


async def test_a_stream_goes_on_with_another_orchestrator(tmp_path: Path) -> None:
    async with (
        servers.target(tiny_model(tmp_path)) as target,
        servers.orchestrator([target.address], []) as stays,
        contextlib.AsyncExitStack() as stack,
    ):
        goes = await stack.enter_async_context(servers.orchestrator([target.address], []))
        whole = await stays.generate(REQUEST).result()
        async with Client(f"{goes.address},{stays.address}") as client:
            generation, tokens = client.generate(REQUEST), []
            async for delta in generation:
                tokens += [token.id for token in delta.tokens]
                if len(tokens) >= 8:
                    await stack.aclose()
        assert tuple(tokens) == whole.token_ids


class NoModels(generation_pb2_grpc.GenerationServiceServicer):
    """An orchestrator behind TLS, as a proxy in front of one makes it."""

    async def ListModels(
        self, request: generation_pb2.ListModelsRequest, context: object
    ) -> generation_pb2.ListModelsResponse:
        return generation_pb2.ListModelsResponse()


def certificate(folder: Path) -> tuple[Path, Path]:
    """A key and its certificate for localhost, which signs itself."""
    key, signed = folder / "key.pem", folder / "cert.pem"
    make = "openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=localhost"
    names = f"-addext subjectAltName=DNS:localhost -keyout {key} -out {signed}"
    subprocess.run([*make.split(), *names.split()], check=True, capture_output=True)
    return key, signed


async def test_tls_by_scheme_with_a_file_or_the_systems_certificates(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    key, signed = certificate(tmp_path)
    server = grpc.aio.server()
    generation_pb2_grpc.add_GenerationServiceServicer_to_server(NoModels(), server)  # type: ignore[abstract]
    credentials = grpc.ssl_server_credentials([(key.read_bytes(), signed.read_bytes())])
    port = server.add_secure_port("localhost:0", credentials)
    await server.start()
    async with Client(f"grpcs://localhost:{port}", ca=signed, retries=0) as client:
        assert await client.models() == []
    stands_for(monkeypatch, [f"127.0.0.1:{port}", "127.0.0.1:1"])  # the certificate is the name's
    async with Client(f"grpcs://localhost:{port}", ca=signed, retries=0) as client:
        assert await client.models() == []
    async with Client(f"https://localhost:{port}", retries=0) as client:
        with pytest.raises(Unavailable, match=r"trusted \(self-signed certificate\): --ca \("):
            await client.models()
    monkeypatch.setenv("SSL_CERT_FILE", str(signed))
    assert system_roots() is not None
    async with Client(f"https://localhost:{port}", retries=0) as client:
        assert await client.models() == []
    async with Client(f"localhost:{port}", retries=0) as client:
        with pytest.raises(Unavailable):
            await client.models()
    await server.stop(0)
