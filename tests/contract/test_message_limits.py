"""Each link has a limit for its messages; a compressed one counts as what it unpacks to."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

import grpc
import psutil
import pytest

from paceline.errors import ResourceExhausted
from paceline.protocol.generation import GenerateRequest, Speculation
from paceline.rpc.channels import open_channel
from paceline.rpc.options import (
    CLIENT_REQUEST_BYTES,
    DRAFT_ANSWER_BYTES,
    ENGINE_REQUEST_BYTES,
    TARGET_ANSWER_BYTES,
)
from paceline.v1 import draft_pb2, generation_pb2, session_pb2, target_pb2
from tests import servers
from tests.contract.test_fuzz_answers import RawServer, serving

TARGET = "simulated:step_ms=1"
METHODS = {
    "orchestrator": "/paceline.v1.GenerationService/Tokenize",
    "target": "/paceline.v1.TargetService/Verify",
    "draft": "/paceline.v1.DraftService/Draft",
}


@pytest.fixture
async def addresses() -> AsyncIterator[dict[str, str]]:
    async with (
        servers.target(TARGET) as target,
        servers.draft(TARGET, drafter="model") as draft,
        servers.orchestrator([target.address], [draft.address]) as client,
    ):
        yield {"orchestrator": client.address, "target": target.address, "draft": draft.address}


async def ended(address: str, method: str, message: bytes, compression: Any) -> tuple[Any, str]:
    """How a call of one raw message ends."""
    async with open_channel(address) as channel:
        if method.endswith("Tokenize"):
            of_one: Any = channel.unary_unary(method)
            call = of_one(message, compression=compression, timeout=60)
        else:
            of_many: Any = channel.stream_stream(method)
            call = of_many(iter([message]), compression=compression, timeout=60)
            with contextlib.suppress(grpc.aio.AioRpcError):
                await call.read()
        return await call.code(), await call.details()


COMPRESSED = grpc.Compression.NoCompression, grpc.Compression.Gzip, grpc.Compression.Deflate


@pytest.mark.parametrize("compression", COMPRESSED)
@pytest.mark.parametrize("role", METHODS)
async def test_no_server_takes_more_than_its_link_may_carry(
    addresses: dict[str, str], role: str, compression: grpc.Compression
) -> None:
    most = CLIENT_REQUEST_BYTES if role == "orchestrator" else ENGINE_REQUEST_BYTES
    address, method = addresses[role], METHODS[role]
    code, details = await ended(address, method, b"\x7f" * (most + 1), compression)
    assert code is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert "message larger than max" in details
    code, details = await ended(address, method, b"\x7f" * most, compression)
    assert (code, details) == (
        grpc.StatusCode.INVALID_ARGUMENT,
        "the message is not the method's: it cannot be decoded",
    )


async def test_what_unpacks_to_much_is_not_unpacked(addresses: dict[str, str]) -> None:
    """Forty times the limit, in a message of a hundredth of it: all of that would be seen."""
    bomb = b"\0" * (40 * CLIENT_REQUEST_BYTES)
    before = psutil.Process().memory_info().rss
    code, details = await ended(
        addresses["orchestrator"], METHODS["orchestrator"], bomb, grpc.Compression.Gzip
    )
    assert code is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert details == "Decompressed message larger than max"
    assert psutil.Process().memory_info().rss - before < 20 * CLIENT_REQUEST_BYTES


async def test_a_compressed_prompt_is_read_as_any_other(addresses: dict[str, str]) -> None:
    prompt = generation_pb2.Prompt(text="a prompt " * 9)
    request = generation_pb2.TokenizeRequest(prompt=prompt).SerializeToString()
    async with open_channel(addresses["orchestrator"]) as channel:
        call: Any = channel.unary_unary(METHODS["orchestrator"])
        answers = [await call(request, compression=one, timeout=60) for one in COMPRESSED]
    assert answers[0] == answers[1] == answers[2]


def request(speculation: Speculation) -> GenerateRequest:
    return GenerateRequest("links", max_tokens=8, seed=1, ignore_eos=True, speculation=speculation)


async def test_a_draft_that_says_too_much_at_once_changes_no_token() -> None:
    proposal = session_pb2.Proposal(position=5, token_ids=[65] * DRAFT_ANSWER_BYTES)
    answer = draft_pb2.DraftResponse(proposals=draft_pb2.Proposals(proposals=[proposal]))
    async with servers.target(TARGET) as target:
        draft = RawServer(target, draft_pb2)
        draft.answers = [answer.SerializeToString()]
        async with (
            serving(draft) as address,
            servers.orchestrator([target.address], [address]) as client,
        ):
            expected = await client.generate(request(Speculation.OFF)).result()
            found = await client.generate(request(Speculation.FORCE)).result()
            assert found.token_ids == expected.token_ids
            assert draft.opened


async def test_a_target_that_says_too_much_at_once_is_named_with_the_limit() -> None:
    verdict = target_pb2.Verdict(position=5, token_ids=[65] * TARGET_ANSWER_BYTES)
    async with servers.target(TARGET) as target:
        wrong = RawServer(target, target_pb2)
        wrong.answers = [target_pb2.VerifyResponse(verdict=verdict).SerializeToString()]
        async with (
            serving(wrong) as address,
            servers.orchestrator([address], []) as client,
            asyncio.timeout(servers.WAIT_SECONDS),
        ):
            with pytest.raises(ResourceExhausted, match=f"larger than max.*{TARGET_ANSWER_BYTES}"):
                await client.generate(request(Speculation.OFF)).result()
