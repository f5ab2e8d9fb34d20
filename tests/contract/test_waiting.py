"""Streams wait for KV instead of being refused: bounded, in order, and nobody's tokens change."""

import asyncio
import dataclasses
import time
from pathlib import Path

import grpc
import pytest
from prometheus_client import CollectorRegistry
from smg_grpc_proto.generated import vllm_engine_pb2 as vllm
from smg_grpc_proto.generated import vllm_engine_pb2_grpc

from orchestrator.backends import pool, target_failover
from paceline.client import Client
from paceline.engine.session import EngineSession
from paceline.engine.simulated import SimulatedModel
from paceline.errors import DeadlineExceeded, ResourceExhausted
from paceline.protocol.generation import GenerateRequest, Speculation
from paceline.protocol.sampling import SamplingParams
from paceline.protocol.status import Role
from paceline.protocol.token_path import TokenPath
from tests import servers
from tests.contract.test_dead_engine import kill
from tests.tiny_models import tiny_model

MODEL = "simulated:step_ms=0"
STEADY = "simulated:step_ms=5"
REQUESTS = 80
LENGTHS = (("a", 400), ("b", 10), ("c", 10))
PAGE = {"kv_tokens": 512, "kv_reserve_tokens": 0}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_model(tmp_path_factory.mktemp("model"))


def request(
    prompt: str,
    max_tokens: int | None = None,
    speculation: Speculation = Speculation.AUTO,
    n: int = 1,
) -> GenerateRequest:
    return GenerateRequest(
        prompt,
        sampling=SamplingParams(temperature=0.8),
        max_tokens=max_tokens,
        ignore_eos=True,
        seed=1,
        speculation=speculation,
        n=n,
    )


async def texts(client: Client, requests: list[GenerateRequest]) -> list[str]:
    found = await asyncio.gather(*(client.generate(one).result() for one in requests))
    return [one.choices[0].text for one in found]


async def waiting(server: servers.Server, count: int) -> None:
    async def so_many() -> bool:
        return server.started.engine.load.waiting == count

    await servers.eventually(so_many)


async def test_all_of_many_requests_at_once_end_with_their_texts() -> None:
    """KV for three streams at a time; none names max_tokens."""
    requests = [request(f"{index} ") for index in range(REQUESTS)]
    async with (
        servers.target(MODEL) as roomy,
        servers.target(MODEL, kv_tokens=1536, kv_reserve_tokens=0) as small,
        servers.orchestrator([roomy.address], [], default_max_tokens=32) as alone,
        servers.orchestrator([small.address], [], default_max_tokens=32) as client,
    ):
        expected = await texts(alone, requests)
        assert await texts(client, requests) == expected
        get = small.registry.get_sample_value
        assert get("paceline_engine_queue_time_seconds_count") == REQUESTS
        assert (get("paceline_engine_queue_time_seconds_sum") or 0.0) > 0.0
        assert get("paceline_engine_waiting") == 0
        await servers.nothing_is_left(small)


def text_of(prompt: str, tokens: int) -> str:
    """What the simulated model says, by its definition."""
    model, path = SimulatedModel.parse(MODEL), TokenPath(prompt.encode())
    for _ in range(tokens):
        path.extend((model.truth(path.digest),))
    return bytes(path.tokens[len(prompt) :]).decode()


@pytest.mark.slow
@pytest.mark.parametrize(("count", "speculation"), [(16, Speculation.OFF), (8, Speculation.FORCE)])
async def test_streams_that_outgrow_kv_end_with_their_texts_with_a_draft_and_without(
    count: int, speculation: Speculation
) -> None:
    """The default max_tokens: each comes to three pages, and there are eleven and the reserve."""
    requests = [request(f"{index},", None, speculation) for index in range(count)]
    async with (
        servers.target(MODEL, kv_tokens=12 * 512, kv_reserve_tokens=512) as small,
        servers.draft("simulated:step_ms=0,acceptance=0.8", drafter="model") as draft,
        servers.orchestrator([small.address], [draft.address]) as client,
    ):
        assert await texts(client, requests) == [text_of(f"{i},", 1024) for i in range(count)]
        get = small.registry.get_sample_value
        assert (get("paceline_engine_preemptions_total") or 0) > 0
        await servers.nothing_is_left(small, draft)


async def test_a_real_model_that_preempts_gives_the_same_texts(folder: Path) -> None:
    """Two pages for four streams that each come to two."""
    requests = [request("x" * 10 * index + "x", 540) for index in range(4)]
    async with (
        servers.target(folder) as roomy,
        servers.target(folder, kv_tokens=1024, kv_reserve_tokens=0) as small,
        servers.draft(folder, drafter="hybrid") as draft,
        servers.orchestrator([roomy.address], []) as alone,
        servers.orchestrator([small.address], [draft.address]) as client,
    ):
        expected = await texts(alone, requests)
        assert await texts(client, requests) == expected
        assert (small.registry.get_sample_value("paceline_engine_preemptions_total") or 0) > 0
        await servers.nothing_is_left(small, draft)


async def test_a_full_queue_and_a_long_wait_are_refused_with_the_time_that_it_takes() -> None:
    limits = {"max_waiting": 1, "max_wait_seconds": 0.5}
    async with (
        servers.target(STEADY, **PAGE, **limits) as target,
        servers.orchestrator([target.address], []) as client,
    ):
        running = asyncio.create_task(client.generate(request("a", 400)).result())
        await busy(target)
        late = asyncio.create_task(client.generate(request("b", 10)).result())
        await waiting(target, 1)
        [server] = (await client.status()).of(Role.TARGET)
        assert server.load.waiting <= 1
        limit = r"KV is full, and 1 streams wait for it, the most that may \(--max-waiting\)"
        with pytest.raises(ResourceExhausted, match=limit) as full:
            await client.generate(request("c", 10)).result()
        assert full.value.retry_after is not None
        with pytest.raises(ResourceExhausted, match=r"KV was full for 0\.5 s") as waited:
            await late
        assert waited.value.retry_after is not None
        assert waited.value.retry_after >= 1.0
        assert target.started.engine.load.waiting == 0
        assert len((await running).token_ids) == 400


async def busy(target: servers.Server) -> None:
    async def begun() -> bool:
        return target.started.engine.steps > 3

    await servers.eventually(begun)


async def test_gauges_for_pickers_are_what_runs_and_waits_and_how_full_kv_is(
    folder: Path,
) -> None:
    """KV for one stream at a time; of two targets the fuller one tells."""
    registry = CollectorRegistry()
    async with (
        servers.target(STEADY, **PAGE) as target,
        servers.target(folder) as other,
        servers.orchestrator([target.address, other.address], [], registry=registry) as client,
        grpc.aio.insecure_channel(client.address) as channel,
    ):
        gateway = vllm_engine_pb2_grpc.VllmEngineStub(channel)

        async def are(running: int, waiting: int, usage: float) -> bool:
            names = "num_requests_running", "num_requests_waiting", "kv_cache_usage_perc"
            found = tuple(registry.get_sample_value(f"paceline_{name}") for name in names)
            [load] = (await gateway.GetLoads(vllm.GetLoadsRequest())).loads
            told = load.num_running_reqs, load.num_waiting_reqs, load.token_usage
            totals = (await client.status()).totals
            shown = totals.running - totals.waiting, totals.waiting, usage
            return found == told == shown == (running, waiting, usage)

        await servers.eventually(lambda: are(0, 0, 0.0))
        asked = [dataclasses.replace(request(*one), model="simulated") for one in LENGTHS]
        streams = [asyncio.create_task(client.generate(one).result()) for one in asked]
        await servers.eventually(lambda: are(1, 2, 1.0))
        await asyncio.gather(*streams)
        await servers.eventually(lambda: are(0, 0, 0.0))


async def test_a_deadline_and_a_client_that_goes_end_a_wait_at_once() -> None:
    async with (
        servers.target(STEADY, **PAGE) as target,
        servers.orchestrator([target.address], []) as client,
    ):
        running = asyncio.create_task(client.generate(request("a", 400)).result())
        await busy(target)
        with pytest.raises(DeadlineExceeded):
            await client.generate(request("b", 10), timeout=0.3).result()
        await waiting(target, 0)
        gone = asyncio.create_task(client.generate(request("c", 10)).result())
        await waiting(target, 1)
        gone.cancel()
        await waiting(target, 0)
        assert len((await running).token_ids) == 400


async def test_choices_that_do_not_fit_together_take_turns() -> None:
    async with (
        servers.target(MODEL) as roomy,
        servers.target(MODEL, **PAGE) as small,
        servers.orchestrator([roomy.address], []) as alone,
        servers.orchestrator([small.address], []) as client,
    ):
        found = [
            (await one.generate(request("a", 100, n=6)).result()).choices for one in (alone, client)
        ]
        assert [one.text for one in found[0]] == [one.text for one in found[1]]


async def test_a_stream_that_waits_where_the_target_dies_goes_on_elsewhere(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It has waited for longer than a stream may be without any target.

    No poll says that the target is dead: the stream finds that, and waits at the other one.
    """
    monkeypatch.setattr(target_failover, "FAILOVER_SECONDS", 0.5)
    async with (
        servers.target(STEADY, **PAGE) as one,
        servers.target(STEADY, **PAGE) as two,
        servers.orchestrator_alone([one.address, two.address]) as client,
    ):

        async def both_known() -> bool:
            found = (await client.status()).of(Role.TARGET)
            return len(found) == 2 and all(each.reachable for each in found)

        await servers.eventually(both_known)
        await servers.has_drafts(client, 0)
        monkeypatch.setattr(pool, "POLL_SECONDS", 600.0)
        monkeypatch.setattr(pool, "LOST_SECONDS", 600.0)
        lengths = {"a": 400, "b": 400}
        streams = [texts(client, [request(*each)]) for each in lengths.items()]
        running = [asyncio.create_task(each) for each in streams]
        await asyncio.gather(busy(one), busy(two))
        late = asyncio.create_task(texts(client, [request("c", 9)]))

        def queue_of(server: servers.Server) -> list[EngineSession]:
            engine = server.started.engine
            return engine._admission.queue.sessions  # type: ignore[attr-defined,no-any-return]

        async def waited() -> bool:
            since = [each.claim.since for each in queue_of(one) + queue_of(two)]
            return bool(since) and time.perf_counter() - since[0] > 0.6

        await servers.eventually(waited)
        kill((one if queue_of(one) else two).started)
        assert await late == [text_of("c", 9)]
        assert [await each for each in running] == [[text_of(each, 400)] for each in lengths]
