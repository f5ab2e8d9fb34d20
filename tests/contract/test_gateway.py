"""The door for gateways, with the stubs that gateways have: equal to our own door to the token."""

import asyncio
import hashlib
import io
import json
import zipfile
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from smg_grpc_proto.generated import common_pb2, vllm_engine_pb2_grpc
from smg_grpc_proto.generated import vllm_engine_pb2 as vllm

from orchestrator.gateway.tokenizer_archive import CHUNK_BYTES, chunks
from paceline.client import Client
from paceline.protocol.generation import GenerateRequest
from paceline.protocol.sampling import SamplingParams
from tests import servers
from tests.tiny_models import EOS, perturbed, tiny_model

PROMPT = (5, 9, 13, 21, 8)
TOKENS = 24
Door = tuple[Any, Client, servers.Server]


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    target = tiny_model(tmp_path_factory.mktemp("target"), "qwen2")
    return target, perturbed(target, tmp_path_factory.mktemp("draft"), 0.08)


@pytest.fixture
async def door(folders: tuple[Path, Path]) -> AsyncIterator[Door]:
    async with (
        servers.target(folders[0]) as target,
        servers.draft(folders[1]) as draft,
        servers.orchestrator([target.address], [draft.address]) as client,
        grpc.aio.insecure_channel(client.address) as channel,
    ):
        yield vllm_engine_pb2_grpc.VllmEngineStub(channel), client, target


def asked(*, stream: bool = True, ids: tuple[int, ...] = PROMPT, **sampling: Any) -> Any:
    """As the gateway asks: it states all but what its client left to the model."""
    fields = {"top_p": 1.0, "repetition_penalty": 1.0, "n": 1, "max_tokens": TOKENS, **sampling}
    return vllm.GenerateRequest(
        request_id="a",
        tokenized=vllm.TokenizedInput(input_ids=ids),
        sampling_params=vllm.SamplingParams(**fields),
        stream=stream,
    )


async def answers(stub: Any, request: Any) -> tuple[list[Any], list[Any]]:
    chunks, completes = [], []
    async for response in stub.Generate(request):
        if response.HasField("chunk"):
            chunks.append(response.chunk)
        else:
            completes.append(response.complete)
    return chunks, completes


async def read_on(call: Any) -> None:
    """To its end: that comes behind what had come before."""
    while await call.read() is not grpc.aio.EOF:
        pass


async def refusal(call: Any) -> tuple[grpc.StatusCode, str]:
    with pytest.raises(grpc.aio.AioRpcError) as raised:
        async for _ in call:
            pass
    return raised.value.code(), raised.value.details() or ""


@pytest.mark.parametrize("sampling", [{"temperature": 0.0}, {"temperature": 0.9, "seed": 4}])
async def test_it_gives_the_tokens_of_our_own_door_in_chunks_and_whole(
    door: Door, sampling: dict[str, Any]
) -> None:
    stub, client, _ = door
    own = SamplingParams(temperature=sampling["temperature"])
    request = GenerateRequest(PROMPT, sampling=own, seed=sampling.get("seed"), max_tokens=TOKENS)
    expected = (await client.generate(request).result()).token_ids
    chunks, [complete] = await answers(stub, asked(**sampling))
    assert [token for chunk in chunks for token in chunk.token_ids] == list(expected)
    assert tuple(complete.output_ids) == expected
    assert [chunk.completion_tokens for chunk in chunks][-1] == len(expected)
    none, [whole] = await answers(stub, asked(stream=False, **sampling))
    assert none == []
    assert tuple(whole.output_ids) == expected
    assert (whole.prompt_tokens, whole.completion_tokens) == (len(PROMPT), len(expected))
    assert whole.finish_reason in {"stop", "length"}
    assert whole.spec_accepted_tokens <= whole.spec_draft_tokens


async def test_each_choice_ends_with_its_own_complete(door: Door) -> None:
    stub, _, _ = door
    request = asked(n=3, temperature=1.0, seed=11)
    chunks, completes = await answers(stub, request)
    assert sorted(complete.index for complete in completes) == [0, 1, 2]
    for complete in completes:
        own = [token for one in chunks if one.index == complete.index for token in one.token_ids]
        assert own == list(complete.output_ids)


async def test_logprobs_of_output_and_prompt_come_in_the_first_chunk_and_in_the_complete(
    door: Door,
) -> None:
    stub, _, _ = door
    request = asked(temperature=0.0, logprobs=2, prompt_logprobs=1)
    chunks, [complete] = await answers(stub, request)
    for message in (chunks[0], complete):
        assert list(message.input_logprobs.token_ids) == list(PROMPT)
        values = message.input_logprobs.token_logprobs
        assert [value.HasField("value") for value in values] == [False] + [True] * 4
        assert [len(one.values) for one in message.input_logprobs.top_logprobs] == [0, 1, 1, 1, 1]
    assert not chunks[1].HasField("input_logprobs")
    assert list(complete.output_logprobs.token_ids) == list(complete.output_ids)
    assert {len(one.values) for one in complete.output_logprobs.top_logprobs} == {2}
    streamed = [value for one in chunks for value in one.output_logprobs.token_logprobs]
    assert streamed == list(complete.output_logprobs.token_logprobs)


async def test_a_stop_id_ends_the_output_and_is_named(door: Door) -> None:
    stub, _, _ = door
    _, [free] = await answers(stub, asked(temperature=0.0, ignore_eos=True))
    wanted = free.output_ids[6]
    stopping = asked(temperature=0.0, ignore_eos=True, stop_token_ids=[wanted])
    _, [complete] = await answers(stub, stopping)
    output = list(free.output_ids)
    assert list(complete.output_ids) == output[: 1 + output.index(wanted)]
    assert (complete.finish_reason, complete.matched_token_id) == ("stop", wanted)


async def test_what_a_gateway_leaves_neutral_or_clamps_is_taken_so(door: Door) -> None:
    stub, _, _ = door
    _, [neutral] = await answers(stub, asked(temperature=0.0))
    _, [zero] = await answers(stub, asked(temperature=0.0, repetition_penalty=0.0, top_p=0.0))
    assert list(zero.output_ids) == list(neutral.output_ids)
    seeded = [
        await answers(stub, asked(temperature=1.0, seed=seed)) for seed in (-7, -7, 2**31 - 1)
    ]
    first, second, clamped = (list(completes[0].output_ids) for _, completes in seeded)
    assert first == second != clamped


async def test_a_prompt_that_is_cut_leaves_room_for_what_is_asked(door: Door) -> None:
    """Longer than all of the model's positions, to a number of tokens or to what fits."""
    stub, client, _ = door
    positions = (await client.models())[0].max_positions
    prompt = PROMPT * positions
    for truncation, kept in ((7, 7), (-1, positions - TOKENS)):
        request = asked(
            ids=prompt, temperature=0.0, ignore_eos=True, truncate_prompt_tokens=truncation
        )
        _, [complete] = await answers(stub, request)
        expected = GenerateRequest(
            prompt[-kept:],
            sampling=SamplingParams(temperature=0.0),
            max_tokens=TOKENS,
            ignore_eos=True,
        )
        assert tuple(complete.output_ids) == (await client.generate(expected).result()).token_ids
        assert (complete.prompt_tokens, complete.completion_tokens) == (kept, TOKENS)


async def test_a_prompt_of_text_has_as_many_tokens_as_are_asked_for(door: Door) -> None:
    stub, _, _ = door
    request = asked(temperature=0.0, ignore_eos=True)
    request.text = "hello"
    _, [complete] = await answers(stub, request)
    assert complete.completion_tokens == TOKENS


async def test_max_tokens_beyond_the_models_positions_ends_by_length(door: Door) -> None:
    stub, client, _ = door
    positions = (await client.models())[0].max_positions
    prompt = PROMPT * (positions // len(PROMPT) - 2)
    request = asked(ids=prompt, temperature=0.0, ignore_eos=True, max_tokens=10**6)
    _, [complete] = await answers(stub, request)
    assert len(complete.output_ids) == positions - len(prompt)
    assert complete.finish_reason == "length"


async def test_what_is_not_served_is_refused_by_name(door: Door) -> None:
    stub, _, _ = door
    invalid, unimplemented = grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.UNIMPLEMENTED
    request = asked()
    request.mm_inputs.SetInParent()
    assert await refusal(stub.Generate(request)) == (
        invalid,
        "mm_inputs: images and other media are not served, text alone is",
    )
    assert await refusal(stub.Generate(asked(logprobs=-1))) == (
        invalid,
        "logprobs is -1; it must be from 0 to 20",
    )
    assert await refusal(stub.Generate(asked(logit_bias={-1: 5.0}))) == (
        invalid,
        "sampling.a token of logit_bias is -1; it must be 0 or more",
    )
    for method, message in (
        (stub.Embed, vllm.EmbedRequest()),
        (stub.FlushCache, common_pb2.FlushCacheRequest()),
        (stub.StartProfile, common_pb2.StartProfileRequest()),
        (stub.StopProfile, common_pb2.StopProfileRequest()),
    ):
        with pytest.raises(grpc.aio.AioRpcError) as raised:
            await method(message)
        assert raised.value.code() is unimplemented
        assert raised.value.details()
    code, _ = await refusal(stub.SubscribeKvEvents(common_pb2.SubscribeKvEventsRequest()))
    assert code is unimplemented


async def test_it_says_what_it_serves_and_how_it_is_loaded(door: Door) -> None:
    stub, client, target = door
    [model] = await client.models()
    health = await stub.HealthCheck(vllm.HealthCheckRequest())
    assert (health.healthy, health.message) == (True, "")
    info = await stub.GetModelInfo(vllm.GetModelInfoRequest())
    assert info.served_model_name == model.name
    assert info.max_context_length == model.max_positions
    assert list(info.eos_token_ids) == [EOS]
    assert info.is_generation
    server = await stub.GetServerInfo(vllm.GetServerInfoRequest())
    assert (server.server_type, server.active_requests) == ("vllm-grpc", 0)
    [load] = (await stub.GetLoads(vllm.GetLoadsRequest())).loads
    assert load.max_total_num_tokens > 0
    assert (load.num_running_reqs, load.num_used_tokens) == (0, 0)
    await servers.nothing_is_left(target)


async def test_the_tokenizer_comes_as_an_archive_with_its_hash_on_the_last_piece(
    door: Door, folders: tuple[Path, Path]
) -> None:
    stub, _, _ = door
    pieces = [one async for one in stub.GetTokenizer(common_pb2.GetTokenizerRequest())]
    content = b"".join(piece.data for piece in pieces)
    assert [piece.sha256 for piece in pieces] == [
        *[""] * (len(pieces) - 1),
        hashlib.sha256(content).hexdigest(),
    ]
    folder = zipfile.ZipFile(io.BytesIO(content))
    assert folder.read("tokenizer.json") == (folders[0] / "tokenizer.json").read_bytes()
    assert isinstance(json.loads(folder.read("tokenizer_config.json")), dict)


def test_an_archive_is_cut_into_pieces_of_64_kib() -> None:
    sizes = [len(chunk.data) for chunk in chunks(b"x" * (2 * CHUNK_BYTES + 1))]
    assert sizes == [CHUNK_BYTES, CHUNK_BYTES, 1]


async def test_abort_frees_the_sessions_at_once(door: Door) -> None:
    stub, _, target = door
    call = stub.Generate(asked(temperature=0.0, ignore_eos=True, max_tokens=400))
    await call.read()
    await stub.Abort(vllm.AbortRequest(request_ids=["a"]))
    with pytest.raises(grpc.aio.AioRpcError) as raised:
        await read_on(call)
    code, details = raised.value.code(), raised.value.details()
    assert (code, details) == (grpc.StatusCode.CANCELLED, "the gateway aborted the call")
    await servers.nothing_is_left(target)


async def test_abort_of_a_call_that_waits_for_its_client_to_read_ends_it_with_a_status(
    door: Door,
) -> None:
    """Its output is whole, and far more than the connection holds that nobody reads from."""
    _, client, target = door
    fields: dict[str, Any] = {"temperature": 1.0, "ignore_eos": True, "max_tokens": 400}
    narrow = (("grpc.http2.bdp_probe", 0), ("grpc.http2.lookahead_bytes", 16_384))
    async with grpc.aio.insecure_channel(client.address, options=narrow) as channel:
        stub = vllm_engine_pb2_grpc.VllmEngineStub(channel)
        call = stub.Generate(asked(logprobs=20, n=4, **fields))
        await call.read()
        await servers.nothing_is_left(target)
        await stub.Abort(vllm.AbortRequest(request_ids=["a"]))
        with pytest.raises(grpc.aio.AioRpcError) as raised:
            async with asyncio.timeout(60):
                await read_on(call)
    code, details = raised.value.code(), raised.value.details()
    assert (code, details) == (grpc.StatusCode.CANCELLED, "the gateway aborted the call")


async def test_abort_ends_no_call_of_another_with_the_same_id(door: Door) -> None:
    stub, _, _ = door
    request = asked(temperature=0.0, ignore_eos=True, max_tokens=100)
    calls = [stub.Generate(request) for _ in range(2)]
    for call in calls:
        await call.read()
    await stub.Abort(vllm.AbortRequest(request_ids=["a", "unknown"]))
    for call in calls:
        last = None
        while (message := await call.read()) is not grpc.aio.EOF:
            last = message
        assert last is not None
        assert len(last.complete.output_ids) == 100


async def test_before_a_target_was_there_a_gateway_is_told_to_come_again() -> None:
    async with (
        servers.orchestrator_alone() as client,
        grpc.aio.insecure_channel(client.address) as channel,
    ):
        stub = vllm_engine_pb2_grpc.VllmEngineStub(channel)
        with pytest.raises(grpc.aio.AioRpcError) as raised:
            await stub.HealthCheck(vllm.HealthCheckRequest())
        assert raised.value.code() is grpc.StatusCode.UNAVAILABLE
        assert "no target can be used" in (raised.value.details() or "")
