"""TLS, certificates of callers and tokens, at the ports of real servers."""

import asyncio
import re
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import pytest
import structlog
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from smg_grpc_proto.generated import vllm_engine_pb2

from paceline.client import Client
from paceline.environment import unknown_variables
from paceline.errors import InvalidArgument, Unauthenticated, Unavailable
from paceline.rpc.channels import open_channel
from paceline.rpc.doors import OPEN, Doors
from paceline.rpc.tls import ClientTls, Identity, ServerTls
from paceline.rpc.tokens import CallerTokens
from paceline.v1 import generation_pb2, generation_pb2_grpc, status_pb2
from paceline_tools.cli.access import VARIABLES, AccessOptions
from paceline_tools.cli.app import main
from tests import servers
from tests.certificates import Authority, authority, expired

ALICE, BOB = "alice-has-this-token", "bob-has-another-token"
UNKNOWN = "not-a-token-known-here"
SIMULATED = "simulated:step_ms=1"


@pytest.fixture
def signer(tmp_path: Path) -> Authority:
    return authority(tmp_path / "signer")


@dataclass
class Chain:
    """Three servers that trust one authority; `port` is the orchestrator's."""

    port: int
    target: servers.Server
    draft: servers.Server


@asynccontextmanager
async def chain(
    signer: Authority, tokens: CallerTokens | None = None, **more: Any
) -> AsyncIterator[Chain]:
    """All links over mutual TLS. Certificates are for localhost, which is resolved."""
    mine = signer.issue("localhost")
    mutual = Doors(ServerTls(mine, signer.path))
    async with (
        servers.target(SIMULATED, doors=mutual) as target,
        servers.draft(SIMULATED, drafter="model", doors=mutual) as draft,
        servers.orchestrator_alone(
            [f"localhost:{target.address.rpartition(':')[2]}"],
            [f"localhost:{draft.address.rpartition(':')[2]}"],
            callers=tokens,
            tls_certificate=mine.certificate,
            tls_key=mine.key,
            tls_server_ca=signer.path,
            **more,
        ) as client,
    ):
        yield Chain(int(client.address.rpartition(":")[2]), target, draft)


def channel(port: int, tls: ClientTls | None) -> grpc.aio.Channel:
    return open_channel(f"127.0.0.1:{port}", tls=tls, name="localhost")


def bearer(token: str) -> tuple[tuple[str, str], ...]:
    return (("authorization", f"Bearer {token}"),)


async def output(
    port: int, tls: ClientTls | None, metadata: tuple[tuple[str, str], ...] = (), **fields: Any
) -> list[int]:
    """The token ids of one request, tried until there is a target."""
    request = generation_pb2.GenerateRequest(
        prompt=generation_pb2.Prompt(token_ids=generation_pb2.TokenIds(ids=[1, 2, 3])),
        max_tokens=20,
        seed=1,
        **fields,
    )
    async with channel(port, tls) as opened:
        stub = generation_pb2_grpc.GenerationServiceStub(opened)
        call = stub.Generate(request, timeout=60, metadata=metadata)
        return [token.id async for event in call for token in event.delta.tokens]


async def ready(port: int, tls: ClientTls, metadata: tuple[tuple[str, str], ...] = ()) -> None:
    async def served() -> bool:
        async with channel(port, tls) as opened:
            stub = generation_pb2_grpc.GenerationServiceStub(opened)
            request = generation_pb2.ListModelsRequest()
            models = (await stub.ListModels(request, timeout=60, metadata=metadata)).models
            return any(model.drafts for model in models)

    await servers.eventually(served)


async def test_all_links_over_mutual_tls_give_the_output_that_plaintext_gives(
    signer: Authority,
) -> None:
    async with (
        servers.target(SIMULATED) as target,
        servers.draft(SIMULATED, drafter="model") as draft,
        servers.orchestrator([target.address], [draft.address]) as client,
    ):
        plain = await output(int(client.address.rpartition(":")[2]), None)
    async with chain(signer) as running:
        tls = ClientTls(signer.path)
        await ready(running.port, tls)
        assert await output(running.port, tls) == plain
    assert len(plain) == 20


@pytest.mark.parametrize("role", ["target", "draft"])
async def test_who_shows_no_right_certificate_is_not_served(
    role: str, signer: Authority, tmp_path: Path
) -> None:
    stranger = authority(tmp_path / "stranger")
    wrong, right, old = stranger.issue("localhost"), signer.issue("orchestrator"), None
    old = signer.issue("old", until=expired())
    async with chain(signer) as running:
        address: str = getattr(running, role).address
        port = int(address.rpartition(":")[2])
        for identity in (None, wrong, old):
            with pytest.raises(grpc.aio.AioRpcError) as raised:
                await asked(port, unchecked(signer.path, identity))
            assert raised.value.code() is grpc.StatusCode.UNAVAILABLE
        with pytest.raises(grpc.aio.AioRpcError):
            await asked(port, None)
        with pytest.raises(grpc.aio.AioRpcError):
            await asked(port, ClientTls(stranger.path, right))
        await asked(port, ClientTls(signer.path, right))


async def asked(port: int, tls: "ClientTls | Unchecked | None") -> None:
    """A call of health, which TLS guards as all others."""
    opened = (
        channel(port, tls)
        if tls is None or isinstance(tls, ClientTls)
        else grpc.aio.secure_channel(
            f"127.0.0.1:{port}",
            tls.credentials,
            options=[("grpc.ssl_target_name_override", "localhost")],
        )
    )
    async with opened:
        stub: Any = health_pb2_grpc.HealthStub(opened)
        await stub.Check(health_pb2.HealthCheckRequest(), timeout=30)


@dataclass
class Unchecked:
    """What a caller shows who does not look whether it can be used."""

    credentials: grpc.ChannelCredentials


def unchecked(ca: Path, identity: Identity | None) -> Unchecked:
    shown = (
        (identity.key.read_bytes(), identity.certificate.read_bytes()) if identity else (None, None)
    )
    return Unchecked(grpc.ssl_channel_credentials(ca.read_bytes(), *shown))


async def test_a_server_with_a_certificate_for_another_name_is_not_dialed(
    signer: Authority,
) -> None:
    async with servers.target(SIMULATED, doors=Doors(ServerTls(signer.issue("other")))) as target:
        port = target.address.rpartition(":")[2]
        with pytest.raises(grpc.aio.AioRpcError, match="Hostname Verification"):
            await asked(int(port), ClientTls(signer.path))
        async with servers.orchestrator_alone(
            [f"localhost:{port}"], tls_server_ca=signer.path
        ) as it:

            async def told() -> bool:
                return "Hostname Verification" in str(await it.status())

            await servers.eventually(told)


@pytest.mark.parametrize("asks", [True, False], ids=["for a certificate", "for TLS"])
async def test_a_server_that_hangs_up_is_told_with_what_to_look_at(
    asks: bool, signer: Authority
) -> None:
    doors = Doors(ServerTls(signer.issue("localhost"), signer.path if asks else None))
    shown: dict[str, Any] = {"tls_server_ca": signer.path} if asks else {}
    async with (
        servers.target(SIMULATED, doors=doors) as target,
        servers.orchestrator_alone(
            [f"localhost:{target.address.rpartition(':')[2]}"], **shown
        ) as client,
    ):

        async def told() -> bool:
            status = str(await client.status())
            return "it speaks TLS (--tls-server-ca), or refuses the certificate shown" in status

        await servers.eventually(told)


async def test_certificates_are_rotated_under_a_stream_that_does_not_break(
    signer: Authority, tmp_path: Path
) -> None:
    with structlog.testing.capture_logs() as lines:
        await rotate(signer, authority(tmp_path / "following"), lines)


async def rotate(signer: Authority, following: Authority, lines: Sequence[Any]) -> None:
    async with chain(signer) as running:
        await ready(running.port, ClientTls(signer.path))
        undisturbed = await output(running.port, ClientTls(signer.path), ignore_eos=True)
        started = asyncio.Event()
        stream = asyncio.create_task(long(running.port, ClientTls(signer.path), started))
        await started.wait()
        old = signer.path.read_bytes()
        signer.path.write_bytes(old + following.path.read_bytes())
        moved = following.issue("localhost")
        here = signer.folder / "localhost.pem", signer.folder / "localhost.key"
        here[1].write_bytes(moved.key.read_bytes())
        here[0].write_bytes(moved.certificate.read_bytes())

        async def renewed() -> bool:
            return [line["event"] for line in lines].count("servers dialed anew") == 2

        await servers.eventually(renewed)
        assert await output(running.port, ClientTls(following.path), ignore_eos=True) == undisturbed
        tokens = await stream
        assert len(tokens) == 3000
        assert tokens[:20] == undisturbed


async def long(port: int, tls: ClientTls, started: asyncio.Event) -> list[int]:
    request = generation_pb2.GenerateRequest(
        prompt=generation_pb2.Prompt(token_ids=generation_pb2.TokenIds(ids=[1, 2, 3])),
        max_tokens=3000,
        seed=1,
        ignore_eos=True,
    )
    async with channel(port, tls) as opened:
        call = generation_pb2_grpc.GenerationServiceStub(opened).Generate(request, timeout=100)
        found = []
        async for event in call:
            started.set()
            found += [token.id for token in event.delta.tokens]
        return found


@pytest.fixture
def tokens(tmp_path: Path) -> CallerTokens:
    path = tmp_path / "tokens.toml"
    path.write_text(f"[alice]\ntokens = ['{ALICE}']\nstreams = 2\n")
    return CallerTokens(path, {"bob": BOB})


def methods() -> Iterator[tuple[str, Any]]:
    """Every method of every service at the orchestrator's port, with a request for it."""
    for module in (generation_pb2, status_pb2, vllm_engine_pb2):
        for service in module.DESCRIPTOR.services_by_name.values():
            for method in service.methods:
                yield f"/{service.full_name}/{method.name}", method.input_type


async def test_no_method_is_served_without_a_token(signer: Authority, tokens: CallerTokens) -> None:
    async with (
        chain(signer, tokens) as running,
        channel(running.port, ClientTls(signer.path)) as opened,
    ):
        found = list(methods())
        assert len(found) >= 10
        for method, kind in found:
            for metadata in ((), bearer(UNKNOWN)):
                call: Any = opened.unary_unary(method, request_serializer=lambda _: b"")
                with pytest.raises(grpc.aio.AioRpcError) as raised:
                    await call(kind, metadata=metadata, timeout=30)
                assert raised.value.code() is grpc.StatusCode.UNAUTHENTICATED, method
        health: Any = health_pb2_grpc.HealthStub(opened)
        await health.Check(health_pb2.HealthCheckRequest(), timeout=30)


async def test_with_its_token_a_caller_is_served_up_to_its_limit(
    signer: Authority, tokens: CallerTokens
) -> None:
    async with chain(signer, tokens) as running:
        tls = ClientTls(signer.path)
        await ready(running.port, tls, bearer(ALICE))
        texts = [await output(running.port, tls, bearer(token)) for token in (ALICE, BOB)]
        assert texts[0] == texts[1]
        with pytest.raises(grpc.aio.AioRpcError) as raised:
            await output(running.port, tls, bearer(ALICE), n=3)
        assert raised.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert raised.value.details() == (
            "alice asks for 3 streams beside 0 that run; its limit is 2 at once"
        )
        assert len(await output(running.port, tls, bearer(BOB), n=3)) == 60


async def test_the_client_library_shows_token_and_certificate(
    signer: Authority, tokens: CallerTokens, tmp_path: Path
) -> None:
    mine = signer.issue("alices-laptop")
    shown: dict[str, Any] = {"ca": signer.path, "certificate": mine.certificate, "key": mine.key}
    async with chain(signer, tokens, tls_client_ca=signer.path) as running:
        address = f"grpcs://localhost:{running.port}"
        await ready(running.port, ClientTls(signer.path, mine), bearer(ALICE))
        async with Client(address, token=ALICE, **shown) as client:
            results = [await client.generate("abc", max_tokens=8, seed=1).result()]
            assert (await client.status()).servers
        async with Client(address, token=BOB, **shown) as client:
            results.append(await client.generate("abc", max_tokens=8, seed=1).result())
        assert results[0].text == results[1].text
        async with Client(address, token=UNKNOWN, **shown) as client:
            with pytest.raises(Unauthenticated, match="the token is not known here"):
                await client.models()
        async with Client(address, retries=0, **shown) as client:
            with pytest.raises(Unauthenticated, match="metadata authorization is missing"):
                await client.generate("abc").result()
        async with Client(address, token=ALICE, ca=signer.path, retries=0) as client:
            with pytest.raises(Unavailable, match="asks for a certificate: --certificate and"):
                await client.models()


async def test_a_token_is_shown_in_plaintext_too_where_that_is_trusted(
    tokens: CallerTokens,
) -> None:
    async with (
        servers.target(SIMULATED) as target,
        servers.orchestrator_alone([target.address], callers=tokens) as stranger,
        Client(stranger.address, token=BOB) as client,
    ):

        async def served() -> bool:
            return bool(await client.models())

        await servers.eventually(served)
        assert (await client.generate("abc", max_tokens=3).result()).token_ids


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"certificate": "it.pem"}, "certificate and key are given both or not at all"),
        ({"key": "it.key"}, "certificate and key are given both or not at all"),
        ({"ca": "it.key"}, "it must be a file with certificates in PEM"),
        ({"ca": "none"}, "it must be a file with certificates in PEM"),
        (
            {"certificate": "it.key", "key": "it.key"},
            "it must be a file with a certificate in PEM",
        ),
        (
            {"certificate": "it.pem", "key": "it.pem"},
            "it must be a file with a private key in PEM",
        ),
    ],
)
def test_what_a_client_cannot_show_is_named(
    given: dict[str, str], said: str, signer: Authority
) -> None:
    signer.issue("it")
    files: dict[str, Any] = {name: signer.folder / path for name, path in given.items()}
    with pytest.raises(InvalidArgument, match=re.escape(said)) as raised:
        Client("localhost", **files)
    assert str(raised.value).split()[0] in ("certificate", list(given)[-1])


@pytest.mark.parametrize("token", ["secret\n", "secr\u00e9t", 3, b"secret"])
def test_a_wrong_token_is_not_quoted(token: Any) -> None:
    with pytest.raises(InvalidArgument) as raised:
        Client("localhost", token=token)
    assert str(raised.value) == "token is not printable ASCII, which it must be"


def test_commands_show_what_flags_or_else_the_environment_have(
    signer: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in VARIABLES.values():
        monkeypatch.delenv(name, raising=False)
    assert not any(AccessOptions().access().values())
    monkeypatch.setenv("PACELINE_TOKEN", ALICE)
    monkeypatch.setenv("PACELINE_CA", str(signer.path))
    given = {"token": ALICE, "ca": str(signer.path), "certificate": None, "key": None}
    assert AccessOptions().access() == given
    monkeypatch.setenv("PACELINE_CA", "/nowhere")
    assert AccessOptions(ca=signer.path, token=BOB).access() == given | {
        "ca": signer.path,
        "token": BOB,
    }
    assert not list(unknown_variables([], dict.fromkeys(VARIABLES.values(), "x")))


@pytest.mark.parametrize(
    ("given", "environment", "said"),
    [
        ({"ca": "/nowhere"}, {}, "--ca is '/nowhere'; it must be a file with certificates in PEM"),
        ({}, {"PACELINE_CA": "/no"}, "PACELINE_CA is '/no'; it must be a file with certificates"),
        ({}, {"PACELINE_TOKEN": "\u00e9"}, "PACELINE_TOKEN is not printable ASCII"),
        (
            {"key": "/nowhere"},
            {},
            "--certificate (PACELINE_CERTIFICATE) and --key (PACELINE_KEY) are given both or not",
        ),
        (
            {"key": "/nowhere"},
            {"PACELINE_CERTIFICATE": "/no"},
            "PACELINE_CERTIFICATE is '/no'; it must be a file with a certificate in PEM",
        ),
    ],
)
def test_what_a_command_cannot_show_is_named_as_it_was_given(
    given: dict[str, Any],
    environment: dict[str, str],
    said: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in VARIABLES.values():
        monkeypatch.setenv(name, environment.get(name, ""))
    with pytest.raises(InvalidArgument, match=re.escape(said)):
        AccessOptions(**given).access()


@pytest.mark.parametrize("command", ["generate", "chat", "doctor", "evaluate", "status", "top"])
def test_every_command_that_asks_has_the_same_flags(
    command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        main([command, "--help"])
    shown = " ".join(capsys.readouterr().out.split())
    for name, variable in VARIABLES.items():
        assert f"--{name} " in shown
        assert variable in shown


async def test_a_guessed_id_neither_ends_nor_reads_anothers_stream(
    signer: Authority, tokens: CallerTokens
) -> None:
    async with chain(signer, tokens) as running:
        tls = ClientTls(signer.path)
        await ready(running.port, tls, bearer(ALICE))
        named = (("x-request-id", "one"),)
        async with channel(running.port, tls) as opened:
            stub = generation_pb2_grpc.GenerationServiceStub(opened)
            request = generation_pb2.GenerateRequest(
                prompt=generation_pb2.Prompt(token_ids=generation_pb2.TokenIds(ids=[1, 2, 3])),
                max_tokens=500,
                seed=1,
                ignore_eos=True,
            )
            call = stub.Generate(request, timeout=60, metadata=(*bearer(ALICE), *named))
            events = aiter(call)
            seen = [token.id async for token in first_tokens(events)]
            request.output_token_ids.extend(seen)
            resumed = stub.Generate(request, timeout=60, metadata=(*bearer(BOB), *named))
            await anext(aiter(resumed))
            seen += [token.id async for event in events for token in event.delta.tokens]
            assert len(seen) == 500
            resumed.cancel()


async def first_tokens(events: AsyncIterator[Any]) -> AsyncIterator[Any]:
    """Those of the first event that has any."""
    async for event in events:
        for token in event.delta.tokens:
            yield token
        if event.delta.tokens:
            return


async def test_callers_find_none_of_each_others_prompts_in_kv(
    signer: Authority, tokens: CallerTokens
) -> None:
    async with chain(signer, tokens) as running:
        tls = ClientTls(signer.path)
        await ready(running.port, tls, bearer(ALICE))
        cached = [
            await cached_tokens(running.port, tls, bearer(token)) for token in (ALICE, ALICE, BOB)
        ]
        assert cached[0] == cached[2] == 0
        assert cached[1] > 0


async def cached_tokens(port: int, tls: ClientTls, metadata: tuple[tuple[str, str], ...]) -> int:
    request = generation_pb2.GenerateRequest(
        prompt=generation_pb2.Prompt(token_ids=generation_pb2.TokenIds(ids=range(1, 201))),
        max_tokens=2,
        seed=1,
    )
    async with channel(port, tls) as opened:
        call = generation_pb2_grpc.GenerationServiceStub(opened).Generate(
            request, timeout=60, metadata=metadata
        )
        return max([event.finished.usage.cached_tokens async for event in call])


async def test_reflection_lists_services_only_where_it_is_asked_for() -> None:
    async with servers.target(SIMULATED, doors=Doors(reflection=False)) as hidden:
        with pytest.raises(grpc.aio.AioRpcError) as raised:
            await listed(hidden.address)
        assert raised.value.code() is grpc.StatusCode.UNIMPLEMENTED
    async with servers.target(SIMULATED, doors=OPEN) as shown:
        assert "paceline.v1.TargetService" in await listed(shown.address)


async def listed(address: str) -> set[str]:
    async with open_channel(address) as opened:
        kind: Any = reflection_pb2_grpc.ServerReflectionStub
        stub = kind(opened)
        request = reflection_pb2.ServerReflectionRequest(list_services="")
        async for answer in stub.ServerReflectionInfo(iter([request]), timeout=30):
            return {service.name for service in answer.list_services_response.service}
    return set()
