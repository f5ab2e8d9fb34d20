"""Traces over real servers, as a collector gets them."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
import structlog
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.trace import NonRecordingSpan, SpanContext, TraceFlags, TraceState
from smg_grpc_proto.generated import vllm_engine_pb2_grpc

from paceline.client import Client, SyncClient
from paceline.errors import InvalidArgument
from paceline.protocol.generation import GenerateRequest, Speculation
from paceline.protocol.sampling import SamplingParams
from paceline.tracing import start as tracing
from paceline.tracing.span import FIRST_STEPS
from tests import servers
from tests.collector import Collector, SentSpan, collecting
from tests.contract.test_gateway import asked
from tests.tiny_models import perturbed, tiny_model
from tests.trace_picture import traced

VERIFY, DRAFT = "paceline.v1.TargetService/Verify", "paceline.v1.DraftService/Draft"
SERVER, CLIENT = 2, 3
CALLER = SpanContext(0xABC, 0xDEF, True, TraceFlags(1), TraceState([("vendor", "1")]))
PROMPT = "a secret that nobody may read"


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    target = tiny_model(tmp_path_factory.mktemp("target"), "qwen2")
    return target, perturbed(target, tmp_path_factory.mktemp("draft"), 0.02)


@pytest.fixture
def collector(monkeypatch: pytest.MonkeyPatch) -> Iterator[Collector]:
    """One that is sent to."""
    with collecting() as found, sending_to(found.endpoint, monkeypatch):
        yield found


@contextlib.contextmanager
def sending_to(endpoint: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[], None]]:
    """Traces are on, sent at once; gives what ends that."""
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint)
    monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "20")
    end = tracing.start("paceline-test")
    try:
        yield end
    finally:
        end()


@contextlib.asynccontextmanager
async def all_three(
    folders: tuple[Path, Path], **settings: Any
) -> AsyncIterator[tuple[Client, servers.Server, servers.Server]]:
    async with (
        servers.target(folders[0], model_name="tiny") as target,
        servers.draft(folders[1]) as draft,
        servers.orchestrator([target.address], [draft.address], **settings) as client,
    ):
        yield client, target, draft


def request(seed: int = 1, **fields: Any) -> GenerateRequest:
    defaults: dict[str, Any] = {"max_tokens": 40, "speculation": Speculation.FORCE}
    return GenerateRequest(PROMPT, seed=seed, ignore_eos=True, **(defaults | fields))


def within(context: SpanContext) -> contextlib.AbstractContextManager[Any]:
    """As if the caller were in a span."""
    return trace.use_span(NonRecordingSpan(context))


def session(spans: list[SentSpan], name: str, stream: SentSpan) -> tuple[SentSpan, SentSpan]:
    """The one session of a stream: the span of the call, and the server's within it."""
    [call] = [one for one in spans if one.name == name and one.parent_id == stream.span_id]
    [served] = [one for one in spans if one.name == name and one.parent_id == call.span_id]
    assert (call.kind, served.kind) == (CLIENT, SERVER)
    return call, served


async def test_one_request_is_one_trace_within_its_callers(
    collector: Collector, folders: tuple[Path, Path]
) -> None:
    async with all_three(folders) as (client, target, _):
        with within(CALLER):
            result = await client.generate(request(), request_id="mine").result()
        await collector.has(tiny=1, stream=1, Verify=2, Draft=2)
        await servers.nothing_is_left(target)
    [root] = collector.named(" tiny")
    [stream] = collector.named("stream")
    assert (root.kind, root.name, root.service) == (SERVER, "text_completion tiny", "paceline-test")
    assert root.parent_id == f"{CALLER.span_id:016x}"
    assert stream.parent_id == root.span_id
    spans = collector.spans
    assert {one.trace_id for one in spans} == {f"{CALLER.trace_id:032x}"}
    assert {one.trace_state for one in spans} == {"vendor=1"}
    _, verify = session(spans, VERIFY, stream)
    _, draft = session(spans, DRAFT, stream)
    parents = {
        "prefill": stream, "verify": stream, "decode": stream, "wait": stream,
        "step": verify, "draft": draft,
    }  # fmt: skip
    steps = [one for one in spans if one.name in parents]
    assert all(one.parent_id == parents[one.name].span_id for one in steps)
    assert all(one.start <= one.end for one in spans)
    of_stream = [one for one in steps if one.name in {"prefill", "verify", "decode"}]
    assert len(of_stream) == FIRST_STEPS
    assert 0 < len([one for one in steps if one.name == "draft"]) <= FIRST_STEPS
    statistics = result.finished.statistics
    said = root.attributes
    assert said["gen_ai.response.id"] == "mine"
    assert said["gen_ai.usage.output_tokens"] == 40
    assert said["gen_ai.usage.input_tokens"] == len(result.started.prompt_token_ids)
    assert said["gen_ai.response.finish_reasons"] == ["length"]
    assert said["gen_ai.response.time_to_first_chunk"] == statistics.ttft_seconds
    assert said["rpc.response.status_code"] == "OK"
    assert stream.attributes["paceline.accepted"] == statistics.accepted > 0
    assert stream.attributes["paceline.rounds"] == statistics.rounds
    assert stream.attributes["paceline.speculation"] == "force"
    assert verify.attributes["paceline.output_tokens"] == 40
    assert verify.attributes["paceline.accepted"] == statistics.accepted
    assert draft.attributes["paceline.drafted"] >= statistics.accepted
    assert {one.error for one in spans} == {None}
    told = repr([(one.name, one.attributes, one.events) for one in spans])
    assert not any(word in told for word in (PROMPT, "secret", result.text))


async def test_each_choice_is_a_stream_of_its_own(
    collector: Collector, folders: tuple[Path, Path]
) -> None:
    async with all_three(folders) as (client, *_):
        await client.generate(request(n=3)).result()
        await collector.has(stream=3, tiny=1, Verify=6)
    [root] = collector.named(" tiny")
    streams = collector.named("stream")
    assert {one.parent_id for one in streams} == {root.span_id}
    assert root.attributes["gen_ai.usage.output_tokens"] == 120
    for stream in streams:
        session(collector.spans, VERIFY, stream)


async def test_sessions_that_share_a_call_keep_their_own_traces(
    collector: Collector, folders: tuple[Path, Path]
) -> None:
    async with all_three(folders) as (client, target, _):
        results = [client.generate(request(seed)).result() for seed in range(4)]
        await asyncio.gather(*results)
        await collector.has(stream=4, tiny=4, Verify=8, Draft=8)
        assert servers.codes(target.registry, "/paceline.v1.TargetService/VerifyShared")
    streams = collector.named("stream")
    assert len({one.trace_id for one in streams}) == 4
    for stream in streams:
        for name in (VERIFY, DRAFT):
            assert {one.trace_id for one in session(collector.spans, name, stream)} == {
                stream.trace_id
            }
    assert not collector.named("Shared")


async def test_a_stream_that_moves_to_another_target_stays_one_trace(
    collector: Collector, folders: tuple[Path, Path]
) -> None:
    async with contextlib.AsyncExitStack() as all_of_it:
        ends, targets = [], []
        for _ in range(2):
            ends.append(await all_of_it.enter_async_context(contextlib.AsyncExitStack()))
            target = servers.target(folders[0], model_name="tiny")
            targets.append(await ends[-1].enter_async_context(target))
        addresses = [one.address for one in targets]
        client = await all_of_it.enter_async_context(servers.orchestrator(addresses, []))
        generation = client.generate(request(max_tokens=400))
        lost = None
        async for delta in generation:
            if lost is None and delta.token_index > 20:
                lost = [one.started.engine.load.sessions for one in targets].index(1)
                await ends[lost].aclose()
        assert generation.finished is not None
        await collector.has(stream=1, tiny=1)
    assert lost is not None
    [stream] = collector.named("stream")
    calls = [one for one in collector.named(VERIFY) if one.parent_id == stream.span_id]
    assert calls[0].attributes["server.address"] == addresses[lost]
    assert calls[-1].attributes["server.address"] == addresses[1 - lost]
    assert all(one.error for one in calls[:-1])
    assert calls[-1].error is None
    for call in (calls[0], calls[-1]):
        [served] = [one for one in collector.named(VERIFY) if one.parent_id == call.span_id]
        assert served.trace_id == stream.trace_id


async def test_a_gateways_context_is_kept(collector: Collector, folders: tuple[Path, Path]) -> None:
    parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    async with (
        all_three(folders) as (client, *_),
        grpc.aio.insecure_channel(client.address) as channel,
    ):
        stub: Any = vllm_engine_pb2_grpc.VllmEngineStub(channel)
        async for _ in stub.Generate(asked(), metadata=(("traceparent", parent),)):
            pass
        await collector.has(tiny=1, Verify=2)
    [root] = collector.named(" tiny")
    assert (root.trace_id, root.parent_id) == (parent[3:35], parent[36:52])
    assert root.attributes["rpc.method"] == "vllm.grpc.engine.VllmEngine/Generate"


@pytest.mark.parametrize(
    ("caller", "count"), [(None, 0), (CALLER, 1), (SpanContext(1, 2, True, TraceFlags(0)), 0)]
)
async def test_the_sampler_follows_the_caller(
    monkeypatch: pytest.MonkeyPatch,
    folders: tuple[Path, Path],
    caller: SpanContext | None,
    count: int,
) -> None:
    monkeypatch.setenv("OTEL_TRACES_SAMPLER", "parentbased_traceidratio")
    monkeypatch.setenv("OTEL_TRACES_SAMPLER_ARG", "0")
    with collecting() as collector, sending_to(collector.endpoint, monkeypatch) as end:
        async with all_three(folders) as (client, *_):
            with within(caller) if caller else contextlib.nullcontext():
                await client.generate(request()).result()
        await asyncio.to_thread(end)
        assert len(collector.named("stream")) == count
        assert bool(collector.spans) is bool(count)


async def test_log_lines_name_the_trace(collector: Collector, folders: tuple[Path, Path]) -> None:
    merge = structlog.contextvars.merge_contextvars
    async with all_three(folders) as (client, *_):
        with structlog.testing.capture_logs([merge]) as lines, within(CALLER):
            await client.generate(request()).result()
        await collector.has(tiny=1, Verify=2, Draft=2)
    ids = {one.span_id: one for one in collector.spans}
    found = [line for line in lines if line["event"] in {"stream finished", "session opened"}]
    assert len(found) == 3
    for line in found:
        assert line["trace_id"] == f"{CALLER.trace_id:032x}"
        assert ids[line["span_id"]].kind == SERVER


async def test_without_traces_the_context_goes_through_all_the_same(
    folders: tuple[Path, Path],
) -> None:
    merge = structlog.contextvars.merge_contextvars
    async with all_three(folders) as (client, *_):
        with structlog.testing.capture_logs([merge]) as lines, within(CALLER):
            await asyncio.gather(*(client.generate(request(seed)).result() for seed in range(2)))
    found = [line for line in lines if line["event"] in {"stream finished", "session opened"}]
    assert len(found) == 6
    assert {line["trace_id"] for line in found} == {f"{CALLER.trace_id:032x}"}
    assert not any("span_id" in line for line in found)


async def test_a_call_that_fails_says_so_and_not_what_it_was_sent(
    collector: Collector, folders: tuple[Path, Path]
) -> None:
    async with all_three(folders) as (client, *_):
        with pytest.raises(InvalidArgument):
            await client.generate(request(sampling=SamplingParams(top_p=7.0))).result()
        await collector.has(Generate=1)
    [root] = collector.named("GenerationService/Generate")
    assert root.attributes["rpc.response.status_code"] == "INVALID_ARGUMENT"
    assert root.error is None  # it is the caller's


def test_programs_of_threads_hand_on_the_span_of_theirs(
    collector: Collector, folders: tuple[Path, Path]
) -> None:
    tracer = TracerProvider().get_tracer("a program")

    def ask(address: str) -> None:
        with SyncClient(address, retries=0) as client, tracer.start_as_current_span("work") as span:
            client.generate(request()).result()
            asked_within.append(span.get_span_context())

    async def run() -> None:
        async with all_three(folders) as (client, *_):
            await asyncio.to_thread(ask, client.address)
            await collector.has(tiny=1)

    asked_within: list[SpanContext] = []
    asyncio.run(run())
    [root] = collector.named(" tiny")
    assert root.parent_id == f"{asked_within[0].span_id:016x}"


async def test_a_collector_that_is_not_there_costs_one_line_and_no_wait(
    monkeypatch: pytest.MonkeyPatch, folders: tuple[Path, Path], caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TIMEOUT", "1")
    with (
        structlog.testing.capture_logs() as lines,
        sending_to("http://127.0.0.1:1", monkeypatch) as end,
    ):
        async with all_three(folders) as (client, *_):

            async def said() -> bool:
                await client.generate(request()).result()
                return any(line["event"] == "traces are not taken" for line in lines)

            await servers.eventually(said)
            await client.generate(request()).result()
        await asyncio.to_thread(end)
    told = [line for line in lines if line["event"] == "traces are not taken"]
    assert told == [
        {
            "event": "traces are not taken",
            "log_level": "warning",
            "endpoint": "http://127.0.0.1:1",
        }
    ]
    assert not [one for one in caplog.records if one.name.startswith("opentelemetry")]


async def test_three_processes_send_one_trace_each_by_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "")  # put back at the end
    monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "")
    with collecting() as collector:
        spans = await traced(tmp_path, collector)
    services = {"Verify": "paceline-target", "Draft": "paceline-draft"}
    assert len({one.trace_id for one in spans}) == 1
    assert sum(not one.parent_id for one in spans) == 1
    known = {one.span_id for one in spans}
    for span in spans:
        assert not span.parent_id or span.parent_id in known
        expected = services.get(span.name.rpartition("/")[2], "") if span.kind == SERVER else ""
        assert span.service == (expected or span.service)
    assert {one.service for one in spans} == {"paceline-orchestrator", *services.values()}
    line = next(
        line
        for line in map(json.loads, (tmp_path / "orchestrator.log").read_text().splitlines())
        if line["event"] == "stream finished"
    )
    assert line["trace_id"] == spans[0].trace_id
