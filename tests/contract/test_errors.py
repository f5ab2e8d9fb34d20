"""What a caller is told: canonical code, field, value and limit; and nothing is lost."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from prometheus_client import CollectorRegistry

from paceline.client import Client
from paceline.errors import (
    DeadlineExceeded,
    FailedPrecondition,
    InvalidArgument,
    NotFound,
    PacelineError,
    ResourceExhausted,
    Unavailable,
)
from paceline.protocol.generation import ChatMessage, GenerateRequest
from paceline.protocol.sampling import SamplingParams
from paceline.rpc.channels import open_channel
from paceline.rpc.interceptors import CallInterceptor, RpcMetrics
from paceline.rpc.options import MAX_MESSAGE_BYTES
from paceline.rpc.status_codes import from_rpc_error
from paceline.v1 import (
    draft_pb2,
    draft_pb2_grpc,
    generation_pb2,
    generation_pb2_grpc,
    session_pb2,
    target_pb2,
    target_pb2_grpc,
)
from tests import servers
from tests.tiny_models import VOCABULARY, tiny_model

Running = tuple[Client, servers.Server, servers.Server]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_model(tmp_path_factory.mktemp("model"))


@pytest.fixture
async def running(folder: Path) -> AsyncIterator[Running]:
    async with (
        servers.target(folder, model_name="tiny") as target,
        servers.draft(folder) as draft,
        servers.orchestrator([target.address], [draft.address]) as client,
    ):
        yield client, target, draft


BAD_REQUESTS: dict[str, tuple[GenerateRequest, type[PacelineError], str]] = {
    "empty text": (GenerateRequest(""), InvalidArgument, r"^prompt is ''; it must be text, token"),
    "no ids": (GenerateRequest(()), InvalidArgument, r"^prompt is \(\); it must be text"),
    "unknown model": (
        GenerateRequest("x", model="gpt"),
        NotFound,
        r"^model 'gpt' is not served; there is tiny$",
    ),
    "long prompt": (
        GenerateRequest((1,) * 1024),
        InvalidArgument,
        r"^prompt's length is 1024; it must be under 1024 tokens",
    ),
    "cold": (
        GenerateRequest("x", sampling=SamplingParams(temperature=-0.5)),
        InvalidArgument,
        r"^sampling.temperature is -0.5; it must be from 0 to 100$",
    ),
    "not a number": (
        GenerateRequest("x", sampling=SamplingParams(temperature=float("nan"))),
        InvalidArgument,
        r"^sampling.temperature is nan",
    ),
    "top_p 0": (
        GenerateRequest("x", sampling=SamplingParams(top_p=0.0)),
        InvalidArgument,
        r"^sampling.top_p is 0.0; it must be over 0 and at most 1$",
    ),
    "top_p over 1": (
        GenerateRequest("x", sampling=SamplingParams(top_p=1.5)),
        InvalidArgument,
        r"^sampling.top_p is 1.5; it must be over 0 and at most 1$",
    ),
    "min_p": (
        GenerateRequest("x", sampling=SamplingParams(min_p=2.0)),
        InvalidArgument,
        r"^sampling.min_p is 2.0",
    ),
    "repetition": (
        GenerateRequest("x", sampling=SamplingParams(repetition_penalty=0.0)),
        InvalidArgument,
        r"^sampling.repetition_penalty is 0.0",
    ),
    "presence": (
        GenerateRequest("x", sampling=SamplingParams(presence_penalty=3.0)),
        InvalidArgument,
        r"^sampling.presence_penalty is 3.0; it must be from -2 to 2$",
    ),
    "bias": (
        GenerateRequest("x", sampling=SamplingParams(logit_bias={5: 200.0})),
        InvalidArgument,
        r"^sampling.logit_bias\[5\] is 200.0",
    ),
    "biased id": (
        GenerateRequest("x", sampling=SamplingParams(logit_bias={VOCABULARY: 1.0})),
        InvalidArgument,
        rf"^a token id in sampling.logit_bias is {VOCABULARY}; it must be under {VOCABULARY}",
    ),
    "id": (
        GenerateRequest((1, VOCABULARY)),
        InvalidArgument,
        rf"^a token id in prompt_token_ids is {VOCABULARY}; it must be under {VOCABULARY}",
    ),
    "negative max_tokens": (
        GenerateRequest("x", max_tokens=-1),
        InvalidArgument,
        r"^max_tokens is -1; it must be at least 1$",
    ),
    "nothing to score": (
        GenerateRequest("x", max_tokens=0),
        InvalidArgument,
        r"^max_tokens is 0; it must be at least 1 where no prompt_logprobs are asked for$",
    ),
    "scores": (
        GenerateRequest("x", max_tokens=0, prompt_logprobs=0, n=2),
        InvalidArgument,
        r"^n is 2; it must be 1 where max_tokens is 0$",
    ),
    "resumed score": (
        GenerateRequest((1,), max_tokens=0, prompt_logprobs=0, seed=1, output_token_ids=(1,)),
        InvalidArgument,
        r"^max_tokens is 0; it must be at least 1, to resume$",
    ),
    "truncation": (
        GenerateRequest("x", truncate_prompt_tokens=0),
        InvalidArgument,
        r"^truncate_prompt_tokens is 0; it must be at least 1, or -1 for what there is room for$",
    ),
    "bad words": (
        GenerateRequest("x", bad_words=("a",) * 257),
        InvalidArgument,
        r"^bad_words's length is 257; it must be at most 256 strings$",
    ),
    "empty bad word": (
        GenerateRequest("x", bad_words=("",)),
        InvalidArgument,
        r"^a string of bad_words is ''; it must be from 1 to 256 characters$",
    ),
    "blank bad word": (
        GenerateRequest("x", bad_words=("a", " \n")),
        InvalidArgument,
        r"^a string of bad_words is blank; it must be a word$",
    ),
    "long bad word": (
        GenerateRequest("x", bad_words=("secret" * 100,)),
        InvalidArgument,
        r"^the length of a string of bad_words is 600; it must be from 1 to 256 characters$",
    ),
    "sequences of bad words": (
        GenerateRequest("x", sampling=SamplingParams(bad_words_token_ids=((1,),) * 1025)),
        InvalidArgument,
        r"^sampling.bad_words_token_ids' length is 1025; it must be at most 1024$",
    ),
    "empty sequence": (
        GenerateRequest("x", sampling=SamplingParams(bad_words_token_ids=((1,), ()))),
        InvalidArgument,
        r"^sampling.bad_words_token_ids\[1\]'s length is 0; it must be from 1 to 256$",
    ),
    "bad id": (
        GenerateRequest("x", sampling=SamplingParams(bad_words_token_ids=((1, VOCABULARY),))),
        InvalidArgument,
        rf"^a token id in sampling.bad_words_token_ids is {VOCABULARY}; it must be under",
    ),
    "allowed id": (
        GenerateRequest("x", sampling=SamplingParams(allowed_token_ids=(1, VOCABULARY))),
        InvalidArgument,
        rf"^a token id in sampling.allowed_token_ids is {VOCABULARY}; it must be under",
    ),
    "many allowed ids": (
        GenerateRequest("x", sampling=SamplingParams(allowed_token_ids=(1,) * (VOCABULARY + 1))),
        InvalidArgument,
        rf"^sampling.allowed_token_ids' length is {VOCABULARY + 1}; it must be at most",
    ),
    "only allowed stop tokens": (
        GenerateRequest(
            "x",
            sampling=SamplingParams(min_tokens=3, allowed_token_ids=(5, 5, 6)),
            stop_token_ids=(6, 5),
        ),
        InvalidArgument,
        r"^sampling.min_tokens is 3; it must be 0 where every one of sampling.allowed_token_ids",
    ),
    "max_tokens without room": (
        GenerateRequest((1, 2), max_tokens=1023),
        InvalidArgument,
        r"^max_tokens is 1023; it must be from 1 to 1022, what the prompt of 2 tokens leaves$",
    ),
    "n": (GenerateRequest("x", n=17), InvalidArgument, r"^n is 17; it must be from 1 to 16$"),
    "no n": (GenerateRequest("x", n=0), InvalidArgument, r"^n is 0; it must be from 1 to 16$"),
    "logprobs": (
        GenerateRequest("x", logprobs=21),
        InvalidArgument,
        r"^logprobs is 21; it must be from 0 to 20$",
    ),
    "prompt logprobs": (
        GenerateRequest("x", prompt_logprobs=21),
        InvalidArgument,
        r"^prompt_logprobs is 21; it must be from 0 to 20$",
    ),
    "stop strings": (
        GenerateRequest("x", stop=("a",) * 17),
        InvalidArgument,
        r"^stop's length is 17; it must be at most 16 strings$",
    ),
    "empty stop string": (
        GenerateRequest("x", stop=("a", "")),
        InvalidArgument,
        r"^a string of stop is ''; it must be from 1 to 256 characters$",
    ),
    "stop id": (
        GenerateRequest("x", stop_token_ids=(VOCABULARY,)),
        InvalidArgument,
        rf"^a token id in stop_token_ids is {VOCABULARY}; it must be under {VOCABULARY}",
    ),
    "only stop tokens": (
        GenerateRequest(
            "x",
            sampling=SamplingParams(min_tokens=3),
            stop_token_ids=tuple(range(VOCABULARY)),
        ),
        InvalidArgument,
        r"^sampling.min_tokens is 3; it must be 0 where every token of the vocabulary ends",
    ),
    "priority": (
        GenerateRequest("x", priority=-101),
        InvalidArgument,
        r"^priority is -101; it must be from -100 to 100$",
    ),
    "salt": (
        GenerateRequest("x", cache_salt="s" * 129),
        InvalidArgument,
        r"^cache_salt's length is 129; it must be at most 128 characters$",
    ),
    "feature": (
        GenerateRequest("x", required_features=("trees",)),
        FailedPrecondition,
        r"^required_features has 'trees'; known are allowed_token_ids, bad_words, cache_salt,",
    ),
    "fingerprint": (
        GenerateRequest("x", fingerprint="other"),
        FailedPrecondition,
        r"^fingerprint 'other' is wanted; tiny here is '[0-9a-f]{32}'$",
    ),
    "resume from text": (
        GenerateRequest("x", seed=1, output_token_ids=(1,)),
        InvalidArgument,
        r"^prompt is 'text'; it must be the token ids of started",
    ),
    "resume without seed": (
        GenerateRequest((1,), output_token_ids=(1,)),
        InvalidArgument,
        r"^seed is None; it must be the seed of started",
    ),
}


async def test_bad_requests_name_the_field_and_the_limit_and_lose_nothing(
    running: Running,
) -> None:
    client, target, draft = running
    for name, (request, kind, message) in BAD_REQUESTS.items():
        with pytest.raises(kind, match=message) as raised:
            await client.generate(request).result()
        assert type(raised.value) is kind, name
    assert len((await client.generate(GenerateRequest("x", max_tokens=3)).result()).token_ids) <= 3
    await servers.nothing_is_left(target, draft)


async def test_tokenize_takes_text_ids_and_conversations(running: Running) -> None:
    client, *_ = running
    assert await client.tokenize((5, 6)) == (5, 6)
    text = await client.tokenize("hi")
    chat = await client.tokenize((ChatMessage("user", "hi"),))
    assert len(text) == 2
    assert len(chat) > len("useri\nhiassistant\n")
    with pytest.raises(NotFound):
        await client.tokenize("hi", model="gpt")
    with pytest.raises(InvalidArgument, match="prompt is ''"):
        await client.tokenize("")


async def test_a_deadline_ends_a_stream(running: Running) -> None:
    client, target, draft = running
    request = GenerateRequest("x", max_tokens=900, ignore_eos=True)
    with pytest.raises(DeadlineExceeded):
        await client.generate(request, timeout=0.3).result()
    await servers.nothing_is_left(target, draft)


async def test_full_kv_is_refused_with_a_time_to_try_again(folder: Path) -> None:
    """One page of 512 tokens, and none may wait: a second session does not fit.

    The first is not harmed.
    """
    async with (
        servers.target(folder, kv_tokens=512, kv_reserve_tokens=0, max_waiting=0) as target,
        servers.orchestrator([target.address], []) as client,
    ):
        first = client.generate(GenerateRequest("x", max_tokens=400, ignore_eos=True, seed=1))
        deltas = aiter(first)
        await anext(deltas)
        with pytest.raises(ResourceExhausted, match="KV is full: 1 pages needed, 0 free") as full:
            await client.generate(GenerateRequest("y", max_tokens=9)).result()
        assert full.value.retry_after == 1.0
        tokens = 1 + sum([len(delta.tokens) async for delta in deltas])
        assert tokens == 400


async def test_without_a_target_the_orchestrator_lives_and_says_so() -> None:
    async with servers.orchestrator_alone() as client:
        assert await client.models() == []
        with pytest.raises(Unavailable, match="no target is reachable"):
            await client.generate("x").result()


async def test_undecodable_messages_are_invalid_arguments(running: Running) -> None:
    _, target, draft = running
    for address, method in (
        (target.address, "/paceline.v1.TargetService/Verify"),
        (draft.address, "/paceline.v1.DraftService/Draft"),
    ):
        async with open_channel(address) as channel:
            multi: Any = channel.stream_stream(method)
            call = multi(iter([b"\xff\xff\xff"]))
            with pytest.raises(grpc.aio.AioRpcError) as raised:
                await call.read()
        assert raised.value.code() is grpc.StatusCode.INVALID_ARGUMENT
        assert "the message is not the method's" in (raised.value.details() or "")
    async with open_channel(target.address) as channel:
        unary: Any = channel.unary_unary("/paceline.v1.ModelService/GetModelInfo")
        with pytest.raises(grpc.aio.AioRpcError) as raised:
            await unary(b"\xff\xff")
    assert raised.value.code() is grpc.StatusCode.INVALID_ARGUMENT


async def test_an_oversized_message_is_refused_with_the_limit(running: Running) -> None:
    client, *_ = running
    with pytest.raises(ResourceExhausted, match=str(MAX_MESSAGE_BYTES)):
        await client.generate("x" * (MAX_MESSAGE_BYTES + 1)).result()


def opening(**fields: Any) -> session_pb2.Open:
    given = {"prompt_token_ids": [1, 2], "max_tokens": 5, **fields}
    return session_pb2.Open(**given)


async def verify_error(address: str, *messages: target_pb2.VerifyRequest) -> PacelineError:
    async with open_channel(address) as channel:
        call = target_pb2_grpc.TargetServiceStub(channel).Verify(iter(messages))
        with pytest.raises(grpc.aio.AioRpcError) as raised:
            async for _ in call:
                pass
    return from_rpc_error(raised.value)


async def test_the_target_refuses_what_it_cannot_serve(running: Running) -> None:
    _, target, _ = running
    proposal = session_pb2.Proposal(position=2, token_ids=[VOCABULARY])
    opened = target_pb2.VerifyRequest(open=opening())
    cases: list[tuple[type[PacelineError], str, list[target_pb2.VerifyRequest]]] = [
        (
            InvalidArgument,
            "the first message must be open",
            [target_pb2.VerifyRequest(verify=target_pb2.Verify())],
        ),
        (InvalidArgument, "only verify may follow open", [opened, opened]),
        (InvalidArgument, "the stream ended before its first message", []),
        (
            InvalidArgument,
            "prompt is",
            [target_pb2.VerifyRequest(open=opening(prompt_token_ids=[]))],
        ),
        (
            InvalidArgument,
            "max_tokens is 0",
            [target_pb2.VerifyRequest(open=opening(max_tokens=0))],
        ),
        (
            FailedPrecondition,
            "'trees'",
            [target_pb2.VerifyRequest(open=opening(required_features=["trees"]))],
        ),
        (
            FailedPrecondition,
            "fingerprint",
            [target_pb2.VerifyRequest(open=opening(fingerprint="other"))],
        ),
        (
            InvalidArgument,
            "a token id in verify.proposal",
            [opened, target_pb2.VerifyRequest(verify=target_pb2.Verify(proposal=proposal))],
        ),
    ]
    for kind, message, requests in cases:
        error = await verify_error(target.address, *requests)
        assert type(error) is kind, message
        assert message in str(error)


async def test_the_draft_refuses_a_gap(running: Running) -> None:
    *_, draft = running
    messages = [
        draft_pb2.DraftRequest(open=opening()),
        draft_pb2.DraftRequest(advance=draft_pb2.Advance(position=9, lookahead=1)),
    ]
    async with open_channel(draft.address) as channel:
        call = draft_pb2_grpc.DraftServiceStub(channel).Draft(iter(messages))
        with pytest.raises(grpc.aio.AioRpcError) as raised:
            async for _ in call:
                pass
    error = from_rpc_error(raised.value)
    assert str(error) == "advance.position is 9; it must be 2, where the committed tokens end"


async def test_the_request_id_is_the_clients_or_made_and_a_bad_one_is_refused(
    running: Running,
) -> None:
    client, *_ = running
    request = GenerateRequest("x", max_tokens=1)
    named = await client.generate(request, request_id="mine").result()
    assert named.started.request_id == "mine"
    made = await client.generate(request).result()
    assert len(made.started.request_id) == 32
    with pytest.raises(InvalidArgument, match="metadata x-request-id"):
        await client.generate(request, request_id="x" * 129).result()


class Buggy(generation_pb2_grpc.GenerationServiceServicer):
    """Fails in ways no servicer should."""

    async def Detokenize(
        self, request: generation_pb2.DetokenizeRequest, context: Any
    ) -> generation_pb2.DetokenizeResponse:
        raise NotImplementedError

    async def Tokenize(
        self, request: generation_pb2.TokenizeRequest, context: Any
    ) -> generation_pb2.TokenizeResponse:
        raise NotImplementedError

    async def ListModels(
        self, request: generation_pb2.ListModelsRequest, context: Any
    ) -> generation_pb2.ListModelsResponse:
        raise ZeroDivisionError("secret")

    async def Generate(
        self, request: generation_pb2.GenerateRequest, context: Any
    ) -> AsyncIterator[generation_pb2.GenerateResponse]:
        yield generation_pb2.GenerateResponse()
        raise ZeroDivisionError("secret")


async def test_a_bug_is_internal_with_the_request_id_and_no_traceback() -> None:
    registry = CollectorRegistry()
    server = grpc.aio.server(interceptors=[CallInterceptor(RpcMetrics(registry))])
    generation_pb2_grpc.add_GenerationServiceServicer_to_server(Buggy(), server)
    port = server.add_insecure_port(servers.ANY_PORT)
    await server.start()
    async with open_channel(f"127.0.0.1:{port}") as channel:
        stub = generation_pb2_grpc.GenerationServiceStub(channel)
        metadata = (("x-request-id", "findme"),)
        calls = (
            stub.ListModels(generation_pb2.ListModelsRequest(), metadata=metadata),
            drained(stub.Generate(generation_pb2.GenerateRequest(), metadata=metadata)),
        )
        for call in calls:
            with pytest.raises(grpc.aio.AioRpcError) as raised:
                await call
            assert raised.value.code() is grpc.StatusCode.INTERNAL
            assert raised.value.details() == "a bug; request id findme"
    await server.stop(0)
    labels = {"method": "/paceline.v1.GenerationService/ListModels", "code": "INTERNAL"}
    assert registry.get_sample_value("paceline_rpcs_total", labels) == 1


async def drained(call: Any) -> None:
    async for _ in call:
        await asyncio.sleep(0)
