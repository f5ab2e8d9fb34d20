"""The life of a server process: alive before ready, draining before gone, seen from outside."""

import asyncio
import signal
import urllib.request
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from prometheus_client import CollectorRegistry
from prometheus_client.parser import text_string_to_metric_families

from orchestrator.settings import OrchestratorSettings
from paceline.client import Client
from paceline.errors import Unavailable
from paceline.protocol.generation import GenerateRequest, Speculation
from paceline.rpc.channels import open_channel, resolve
from paceline.rpc.doors import OPEN, Doors
from paceline.rpc.server import Health, RpcServer, run
from paceline.rpc.tls import ServerTls
from tests import servers
from tests.certificates import authority
from tests.tiny_models import tiny_model

SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING
NAME = "paceline.v1.GenerationService"


async def status(channel: grpc.aio.Channel, service: str) -> int:
    request = health_pb2.HealthCheckRequest(service=service)
    stub: Any = health_pb2_grpc.HealthStub(channel)
    answer = await stub.Check(request, timeout=5)
    return int(answer.status)


COUNTS = {
    "time_to_first_token_seconds": 1,
    "inter_token_latency_seconds": 4,
    "e2e_request_latency_seconds": 1,
    "request_queue_time_seconds": 1,
    "request_time_per_output_token_seconds": 1,
    "request_prompt_tokens": 1,
    "request_generation_tokens": 1,
    "round_seconds": 0,
}
"""What each histogram has observed of one stream of five tokens, with no draft."""


class Slow:
    """A service that loads when told to, lives while told to, and notes what is done to it."""

    def __init__(self) -> None:
        self.loaded = asyncio.Event()
        self.living = True
        self.hindered = ""
        self.drained = self.closed = False

    async def load(self, registry: CollectorRegistry) -> "Slow":
        await self.loaded.wait()
        return self

    def register(self, server: RpcServer) -> None:
        return

    def alive(self) -> bool:
        return self.living

    def hindrance(self) -> str:
        return self.hindered

    def drain(self) -> None:
        self.drained = True

    async def close(self) -> None:
        self.closed = True


@pytest.fixture
def free_ports() -> tuple[int, int, int]:
    import socket

    sockets = [socket.socket() for _ in range(3)]
    for each in sockets:
        each.bind(("127.0.0.1", 0))
    ports = tuple(each.getsockname()[1] for each in sockets)
    for each in sockets:
        each.close()
    return ports[0], ports[1], ports[2]


@pytest.fixture
async def process(
    free_ports: tuple[int, int, int],
) -> AsyncIterator[tuple[Slow, OrchestratorSettings, "asyncio.Task[None]"]]:
    port, health_port, metrics_port = free_ports
    settings = OrchestratorSettings(
        host="127.0.0.1",
        port=port,
        health_port=health_port,
        metrics_port=metrics_port,
        drain_seconds=5,
    )
    service = Slow()
    task = asyncio.create_task(run(settings, (NAME,), service.load, public=True))
    yield service, settings, task
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def test_health_is_alive_before_it_is_ready_and_says_when_it_dies(
    process: tuple[Slow, OrchestratorSettings, "asyncio.Task[None]"],
) -> None:
    service, settings, task = process
    async with open_channel(f"127.0.0.1:{settings.health_port}") as channel:

        async def alive() -> bool:
            try:
                return await status(channel, "") == SERVING
            except grpc.aio.AioRpcError:
                return False

        await servers.eventually(alive)
        assert await status(channel, NAME) == NOT_SERVING
        service.loaded.set()

        async def ready() -> bool:
            return await status(channel, NAME) == SERVING

        await servers.eventually(ready)
        async with open_channel(f"127.0.0.1:{settings.port}") as calls:
            assert await status(calls, NAME) == SERVING
        service.hindered = "nothing is behind it"

        async def hindered() -> bool:
            return not await ready()

        await servers.eventually(hindered)
        assert await status(channel, "") == SERVING
        service.hindered = ""
        await servers.eventually(ready)
        service.living = False

        async def dead() -> bool:
            return await status(channel, "") == NOT_SERVING

        await servers.eventually(dead)
        assert await status(channel, NAME) == NOT_SERVING
        signal.raise_signal(signal.SIGTERM)
        await asyncio.wait_for(task, servers.WAIT_SECONDS)
    assert service.drained
    assert service.closed


async def test_a_signal_while_loading_ends_the_process(
    process: tuple[Slow, OrchestratorSettings, "asyncio.Task[None]"],
) -> None:
    service, settings, task = process
    async with open_channel(f"127.0.0.1:{settings.health_port}") as channel:

        async def alive() -> bool:
            try:
                return await status(channel, "") == SERVING
            except grpc.aio.AioRpcError:
                return False

        await servers.eventually(alive)
    signal.raise_signal(signal.SIGINT)
    await asyncio.wait_for(task, servers.WAIT_SECONDS)
    assert not service.drained


async def test_a_taken_port_is_refused_by_name() -> None:
    health = Health(())
    first = RpcServer("127.0.0.1:0", registry=None)
    await first.start(health.servicer, ())
    second = RpcServer(f"127.0.0.1:{first.port}", registry=None)
    with pytest.raises(Unavailable, match=f"cannot listen on 127.0.0.1:{first.port}"):
        await second.start(health.servicer, ())
    await first.stop(0)


async def started(address: str, doors: Doors, *, shared: bool) -> RpcServer:
    server = RpcServer(address, registry=None, doors=doors, shared=shared)
    await server.start(Health(()).servicer, ())
    return server


@pytest.mark.parametrize("encrypted", [False, True])
async def test_a_port_is_shared_where_both_say_so(encrypted: bool, tmp_path: Path) -> None:
    shown = authority(tmp_path).issue("localhost")
    doors = Doors(ServerTls(shown)) if encrypted else OPEN
    for its, ours in ((False, True), (True, False), (True, True)):
        first = await started("127.0.0.1:0", doors, shared=its)
        address = f"127.0.0.1:{first.port}"
        if its and ours:
            second = await started(address, doors, shared=ours)
            assert second.port == first.port
            await second.stop(0)
        else:
            with pytest.raises(Unavailable, match=f"cannot listen on {address}"):
                await started(address, doors, shared=ours)
        await first.stop(0)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_model(tmp_path_factory.mktemp("model"))


async def test_all_three_servers_can_be_explored_by_reflection(folder: Path) -> None:
    async with (
        servers.target(folder) as target,
        servers.draft(folder) as draft,
        servers.orchestrator([target.address], [draft.address]) as client,
    ):
        for channel, service in (
            (open_channel(target.address), "paceline.v1.TargetService"),
            (open_channel(draft.address), "paceline.v1.DraftService"),
            (open_channel(client.address), NAME),
        ):
            make_stub: Any = reflection_pb2_grpc.ServerReflectionStub
            stub = make_stub(channel)
            listing: Any = reflection_pb2.ServerReflectionRequest
            call = stub.ServerReflectionInfo(iter([listing(list_services="")]))
            answer = await call.read()
            names = {found.name for found in answer.list_services_response.service}
            assert {service, "grpc.health.v1.Health"} <= names
            call.cancel()

            async def serves(channel: grpc.aio.Channel = channel, name: str = service) -> bool:
                return await status(channel, name) == SERVING

            await servers.eventually(serves)


async def test_metrics_tell_what_happened(folder: Path) -> None:
    async with (
        servers.target(folder) as target,
        servers.draft(folder) as draft,
        servers.orchestrator([target.address], [draft.address]) as client,
    ):
        request = GenerateRequest(
            "count me", max_tokens=30, ignore_eos=True, seed=1, speculation=Speculation.FORCE
        )
        finished = (await client.generate(request).result()).finished
        found = finished.statistics
        assert found.rounds > 0
        get = target.registry.get_sample_value
        steps = found.rounds + found.target_only_steps

        async def all_counted() -> bool:
            return get("paceline_engine_step_seconds_count") == steps

        await servers.eventually(all_counted)
        assert get("paceline_target_rounds_total") == found.rounds
        assert get("paceline_target_only_steps_total") == found.target_only_steps
        assert get("paceline_target_verified_tokens_total") == found.verified
        assert get("paceline_target_accepted_tokens_total") == found.accepted
        assert get("paceline_target_branch_verified_tokens_total") == found.branch_verified
        assert get("paceline_target_branch_accepted_tokens_total") == found.branch_accepted
        assert get("paceline_engine_kv_pages") == 128
        proposed = draft.registry.get_sample_value(
            "paceline_draft_proposed_tokens_total", {"drafter": "model"}
        )
        assert proposed is not None
        assert proposed >= found.drafted
        await client.close()


async def test_a_scrape_of_the_orchestrator_has_the_streams_statistics(
    folder: Path, free_ports: tuple[int, int, int]
) -> None:
    import orchestrator.__main__ as main

    port, health_port, metrics_port = free_ports
    async with servers.target(folder) as target:
        settings = OrchestratorSettings(
            host="127.0.0.1",
            port=port,
            health_port=health_port,
            metrics_port=metrics_port,
            target=[target.address],
            draft=["gone=unix:/nowhere"],
        )

        async def load(registry: CollectorRegistry) -> main.Orchestrator:
            return main.Orchestrator(settings, registry)

        task = asyncio.create_task(run(settings, main.NAMES, load, public=True))
        async with Client(f"127.0.0.1:{port}") as client:

            async def ready() -> bool:
                try:
                    return bool(await client.models())
                except Unavailable:
                    return False

            await servers.eventually(ready)
            await client.generate(GenerateRequest("x", max_tokens=5, ignore_eos=True)).result()
            url = f"http://127.0.0.1:{metrics_port}/metrics"
            page = await asyncio.to_thread(lambda: urllib.request.urlopen(url, timeout=5).read())
        samples = {
            (sample.name, tuple(sample.labels.values())): sample.value
            for family in text_string_to_metric_families(page.decode())
            for sample in family.samples
        }
        model = target.started.model.name
        assert samples["paceline_streams_total", (model, "length")] == 1
        assert samples["paceline_streams_running", (model,)] == 0
        assert samples["paceline_prompt_tokens_total", (model,)] == 1
        assert samples["paceline_generation_tokens_total", (model,)] == 5
        assert samples["paceline_spec_decode_num_target_only_steps_total", (model,)] == 5
        for name, count in COUNTS.items():
            assert samples[f"paceline_{name}_count", (model,)] == count, name
        assert samples["paceline_request_generation_tokens_sum", (model,)] == 5
        assert samples["paceline_model_targets_ready", (model,)] == 1
        assert samples["paceline_targets_ready", ()] == 1
        assert samples["paceline_drafts_ready", ("gone",)] == 0
        signal.raise_signal(signal.SIGTERM)
        await asyncio.wait_for(task, servers.WAIT_SECONDS)


async def test_names_stand_for_all_they_resolve_to() -> None:
    assert "127.0.0.1:7071" in await resolve("localhost:7071")
    assert await resolve("unix:/tmp/x") == ["unix:/tmp/x"]
    with pytest.raises(Unavailable, match=r"nowhere\.invalid:1 does not resolve"):
        await resolve("nowhere.invalid:1")
