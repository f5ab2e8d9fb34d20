"""Servers that speak nonsense: the output is the target's alone, in time, and they are benched."""

import asyncio
import contextlib
import math
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from itertools import count, repeat
from typing import Any

import grpc
import pytest

from paceline.client import Client
from paceline.errors import Internal
from paceline.protocol.generation import GenerateRequest, Speculation
from paceline.protocol.model import ModelInfo
from paceline.protocol.sampling import SamplingParams
from paceline.protocol.status import DraftPoolStatus, PoolState
from paceline.rpc.codec.model import model_info_to_proto
from paceline.rpc.options import server_options
from paceline.v1 import (
    draft_pb2,
    draft_pb2_grpc,
    model_pb2,
    model_pb2_grpc,
    session_pb2,
    target_pb2,
    target_pb2_grpc,
)
from tests import servers

TARGET = "simulated:step_ms=2"
TOKENS = 24
Response = draft_pb2.DraftResponse
Nonsense = Callable[[int], Iterator[Response]]
"""What a draft says behind opened, by the length of the prompt."""


def proposals(*some: session_pb2.Proposal) -> Response:
    return Response(proposals=draft_pb2.Proposals(proposals=some))


def proposal(position: int, tokens: Any = (65,), confidences: Any = (1.0,), base: int = 7) -> Any:
    return session_pb2.Proposal(
        position=position, base_digest=base, token_ids=tokens, confidences=confidences
    )


def one(**fields: Any) -> Nonsense:
    return lambda start: iter([proposals(proposal(start, **fields))])


DRAFTS: dict[str, Nonsense] = {
    "more confidences than tokens": one(confidences=[1.0] * 100_000),
    "a negative confidence": one(confidences=[-1.0]),
    "a confidence that is no number": one(confidences=[math.nan]),
    "an infinite confidence": one(confidences=[math.inf]),
    "a very long proposal": one(tokens=[65] * 400_000, confidences=()),
    "an id beyond the vocabulary": one(tokens=[70_000]),
    "an id of 32 bits": one(tokens=[2**32 - 1]),
    "the past": lambda start: iter([proposals(proposal(0))]),
    "the future": lambda start: iter([proposals(proposal(start + 5000))]),
    "wrong digests for ever": lambda start: (
        proposals(proposal(start, base=base)) for base in count(1)
    ),
    "branches without end": lambda start: (
        proposals(*(proposal(start, tokens=[65 + i % 9, 66]) for i in range(100))) for _ in count()
    ),
    "empty proposals without end": lambda start: (
        proposals(*repeat(proposal(start, (), ()), 100)) for _ in count()
    ),
    "one empty proposal after the other": lambda start: repeat(proposals(proposal(start, (), ()))),
    "signs of life without end": lambda _: repeat(Response(progress=session_pb2.Progress())),
    "opened twice": lambda _: iter([Response(opened=session_pb2.Opened())]),
    "nothing known": lambda _: iter([Response()]),
}


UNOPENED = {
    "progress-first": Response(progress=session_pb2.Progress()),
    "proposals-first": proposals(proposal(1)),
    "nothing-first": Response(),
}


class NonsenseDraft(draft_pb2_grpc.DraftServiceServicer, model_pb2_grpc.ModelServiceServicer):
    """A draft of which each session says the same nonsense."""

    def __init__(self, model: ModelInfo, nonsense: Nonsense, first: Response | None = None) -> None:
        self.model = model
        self.nonsense = nonsense
        self.first = first or Response(opened=session_pb2.Opened())
        self.opened = 0

    async def GetModelInfo(self, request: Any, context: Any) -> Any:
        return model_pb2.GetModelInfoResponse(model=model_info_to_proto(self.model))

    def GetTokenizer(self, request: Any, context: Any) -> Any:
        raise NotImplementedError

    def DraftShared(self, request_iterator: Any, context: Any) -> Any:
        raise NotImplementedError

    async def Draft(self, request_iterator: Any, context: Any) -> AsyncIterator[Response]:
        self.opened += 1
        start = 0
        async for request in request_iterator:
            if request.WhichOneof("message") == "open":
                start = len(request.open.prompt_token_ids)
                yield self.first
                continue
            for response in self.nonsense(start):
                yield response
                await asyncio.sleep(0)


@asynccontextmanager
async def serving(*services: Any) -> AsyncIterator[str]:
    server = grpc.aio.server(options=server_options(public=False))
    for service in services:
        if isinstance(service, draft_pb2_grpc.DraftServiceServicer):
            draft_pb2_grpc.add_DraftServiceServicer_to_server(service, server)
        if isinstance(service, target_pb2_grpc.TargetServiceServicer):
            target_pb2_grpc.add_TargetServiceServicer_to_server(service, server)
        model_pb2_grpc.add_ModelServiceServicer_to_server(service, server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        yield f"127.0.0.1:{port}"
    finally:
        await server.stop(0)


def request(speculation: Speculation) -> GenerateRequest:
    greedy = SamplingParams(temperature=0)
    return GenerateRequest(
        "nonsense", sampling=greedy, max_tokens=TOKENS, seed=1, speculation=speculation
    )


async def output(client: Client, speculation: Speculation) -> tuple[int, ...]:
    async with asyncio.timeout(servers.WAIT_SECONDS):
        return (await client.generate(request(speculation)).result()).token_ids


async def pools(client: Client) -> dict[str, DraftPoolStatus]:
    return {pool.name: pool for pool in (await client.status()).draft_pools}


@pytest.mark.parametrize("speculation", [Speculation.FORCE, Speculation.AUTO])
async def test_drafts_that_speak_nonsense_are_benched_and_change_nothing(
    speculation: Speculation,
) -> None:
    async with contextlib.AsyncExitStack() as stack:
        target = await stack.enter_async_context(servers.target(TARGET))
        drafts = {
            name.replace(" ", "-"): NonsenseDraft(target.started.model, nonsense)
            for name, nonsense in DRAFTS.items()
        }
        for name, first in UNOPENED.items():
            drafts[name] = NonsenseDraft(target.started.model, lambda _: iter(()), first)
        addresses = [
            f"{name}={await stack.enter_async_context(serving(draft))}"
            for name, draft in drafts.items()
        ]
        client = await stack.enter_async_context(
            servers.orchestrator([target.address], addresses, draft_wait_seconds=0.2)
        )
        expected = await output(client, Speculation.OFF)

        async def benched() -> bool:
            assert await output(client, speculation) == expected
            found = (await pools(client)).values()
            return all(pool.state is PoolState.BENCHED for pool in found)

        await servers.eventually(benched)
        for pool in (await pools(client)).values():
            assert "broke the contract" in pool.reason, pool
        opened = [draft.opened for draft in drafts.values()]
        assert await output(client, speculation) == expected
        assert opened == [draft.opened for draft in drafts.values()]


Verdict = target_pb2.Verdict
GOOD: dict[str, Any] = {"token_ids": [65], "step_seconds": 0.001}
VERDICTS: dict[str, Callable[[int], list[Verdict]]] = {
    "4 billion verified": lambda at: [Verdict(position=at, verified=2**32 - 1, **GOOD)],
    "more accepted than verified": lambda at: [Verdict(position=at, accepted=3, **GOOD)],
    "no token": lambda at: [Verdict(position=at)],
    "more tokens than asked for": lambda at: [Verdict(position=at, token_ids=[65] * 100_000)],
    "ids beyond the vocabulary": lambda at: [Verdict(position=at, token_ids=[2**31])],
    "the past": lambda at: [Verdict(position=at - 1, **GOOD)],
    "the future": lambda at: [Verdict(position=at + 1, **GOOD)],
    "a time that is no number": lambda at: [
        Verdict(position=at, token_ids=[65], step_seconds=math.nan)
    ],
    "an infinite cost": lambda at: [
        Verdict(position=at, cost_model=session_pb2.CostModel(token_seconds=math.inf), **GOOD)
    ],
    "logprobs that nobody asked for": lambda at: [
        Verdict(position=at, logprobs=[session_pb2.TokenLogprobs()], **GOOD)
    ],
    "more cached than the prompt has": lambda at: [
        Verdict(position=at, cached_tokens=2**31, **GOOD)
    ],
}


class NonsenseTarget(target_pb2_grpc.TargetServiceServicer, model_pb2_grpc.ModelServiceServicer):
    """A target that calls itself another's equal, and answers nonsense."""

    verdicts: Callable[[int], list[Verdict]]

    def __init__(self, other: servers.Server) -> None:
        self.started = other.started
        self.opened = 0

    async def GetModelInfo(self, request: Any, context: Any) -> Any:
        return model_pb2.GetModelInfoResponse(model=model_info_to_proto(self.started.model))

    async def GetTokenizer(self, request: Any, context: Any) -> AsyncIterator[Any]:
        files = self.started.tokenizer
        assert files is not None
        yield model_pb2.GetTokenizerResponse(tokenizer_json=files.tokenizer_json)

    def VerifyShared(self, request_iterator: Any, context: Any) -> Any:
        raise NotImplementedError

    async def Verify(self, request_iterator: Any, context: Any) -> AsyncIterator[Any]:
        self.opened += 1
        start = 0
        async for request in request_iterator:
            if request.WhichOneof("message") == "open":
                start = len(request.open.prompt_token_ids)
                opened = session_pb2.Opened(fingerprint=self.started.model.fingerprint)
                yield target_pb2.VerifyResponse(opened=opened)
                continue
            for verdict in self.verdicts(start):
                yield target_pb2.VerifyResponse(verdict=verdict)


async def test_a_target_that_speaks_nonsense_is_a_lost_one() -> None:
    async with servers.target(TARGET) as target:
        nonsense = NonsenseTarget(target)
        async with (
            serving(nonsense) as address,
            servers.orchestrator([target.address], []) as alone,
            servers.orchestrator([address], []) as only,
            servers.orchestrator([address, target.address], []) as both,
        ):
            expected = await output(alone, Speculation.OFF)
            for name, verdicts in VERDICTS.items():
                nonsense.verdicts = verdicts
                with pytest.raises(Internal, match="broke the contract"):
                    await output(only, Speculation.OFF)
                opened = nonsense.opened

                async def met(opened: int = opened) -> bool:
                    assert await output(both, Speculation.OFF) == expected
                    return nonsense.opened > opened

                await servers.eventually(met)
                assert nonsense.opened > opened, name
