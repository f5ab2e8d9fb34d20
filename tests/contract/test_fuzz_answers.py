"""Whatever drafts and targets answer to an orchestrator, it goes on, and no token changes."""

import asyncio
import contextlib
import os
from collections import Counter
from collections.abc import AsyncIterator, Callable
from typing import Any

import grpc
import pytest
from google.protobuf import message_factory
from google.protobuf.descriptor import Descriptor
from google.protobuf.message import DecodeError
from hypothesis import given, settings
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry

from orchestrator.backends import pool, replica
from paceline.client import Client
from paceline.protocol.generation import GenerateRequest, Speculation
from paceline.rpc.codec.model import model_info_to_proto
from paceline.rpc.options import server_options
from paceline.v1 import draft_pb2, model_pb2, session_pb2, target_pb2
from tests import servers
from tests.contract.test_fuzz import encoded, messages, say
from tests.contract.test_nonsense import GOOD

TARGET = "simulated:step_ms=1"
EXAMPLES = int(os.environ.get("FUZZ_ANSWERS", "100"))
"""Drawn for each role; `make fuzz` draws more."""
MOST_ANSWERS = 4
PROMPT_TOKENS = 400
"""No position that is drawn is the next one of such a stream: a verdict there would be believed."""
SERVICES = {draft_pb2: "Draft", target_pb2: "Verify"}
GENERATE = "/paceline.v1.GenerationService/Generate"


def raw(kind: Any) -> list[bytes]:
    return [kind.SerializeToString()]


class RawServer(grpc.GenericRpcHandler):
    """A draft or target whose sessions answer what they are told to, as bytes, and then end."""

    def __init__(self, other: servers.Server, of: Any) -> None:
        """It calls itself another's equal. of: the module of its service."""
        self.answers: list[bytes] = []
        self.opens = True
        self.opened = 0
        self._other = other
        [self._service] = of.DESCRIPTOR.services_by_name.values()
        self._method = SERVICES[of]
        self._response = self._service.methods_by_name[self._method].output_type

    def service(self, handler_call_details: Any) -> Any:
        *_, service, method = handler_call_details.method.split("/")
        if service == self._service.full_name and method == self._method:
            return grpc.stream_stream_rpc_method_handler(self._session)
        if service == "paceline.v1.ModelService" and method == "GetModelInfo":
            return grpc.unary_unary_rpc_method_handler(self._info)
        if service == "paceline.v1.ModelService" and method == "GetTokenizer":
            return grpc.unary_stream_rpc_method_handler(self._tokenizer)
        return None

    async def _info(self, request: Any, context: Any) -> bytes:
        info = model_info_to_proto(self._other.started.model)
        return model_pb2.GetModelInfoResponse(model=info).SerializeToString()

    async def _tokenizer(self, request: Any, context: Any) -> AsyncIterator[bytes]:
        files = self._other.started.tokenizer
        assert files is not None
        answer = model_pb2.GetTokenizerResponse(tokenizer_json=files.tokenizer_json)
        yield answer.SerializeToString()

    async def _session(self, requests: AsyncIterator[bytes], context: Any) -> AsyncIterator[bytes]:
        self.opened += 1
        opened = session_pb2.Opened(fingerprint=self._other.started.model.fingerprint)
        response = message_factory.GetMessageClass(self._response)(opened=opened)
        await anext(requests)
        if self.opens:
            yield response.SerializeToString()
            await anext(requests)
        for answer in self.answers:
            yield answer


@contextlib.asynccontextmanager
async def serving(server: RawServer) -> AsyncIterator[str]:
    running = grpc.aio.server(options=server_options(public=False))
    running.add_generic_rpc_handlers((server,))
    port = running.add_insecure_port("127.0.0.1:0")
    await running.start()
    try:
        yield f"127.0.0.1:{port}"
    finally:
        await running.stop(0)


async def output(client: Client, speculation: Speculation) -> tuple[int, ...]:
    request = GenerateRequest(
        [65] * PROMPT_TOKENS, max_tokens=12, seed=1, ignore_eos=True, speculation=speculation
    )
    async with asyncio.timeout(servers.WAIT_SECONDS):
        return (await client.generate(request).result()).token_ids


def drawn(one: st.SearchStrategy[bytes]) -> list[tuple[bool, list[bytes]]]:
    """Answers of sessions, and whether each answers Opened before."""
    examples: list[tuple[bool, list[bytes]]] = []

    @settings(max_examples=EXAMPLES, deadline=None, database=None)
    @given(st.booleans(), st.lists(one, min_size=1, max_size=MOST_ANSWERS))
    def collect(opens: bool, some: list[bytes]) -> None:
        examples.append((opens, some))

    collect()
    return examples


def decoded(kind: Descriptor, examples: list[tuple[bool, list[bytes]]]) -> Counter[bool]:
    """How many of all that is answered is a message."""
    found = Counter[bool]()
    for answer in (answer for _, answers in examples for answer in answers):
        try:
            message_factory.GetMessageClass(kind).FromString(answer)
        except DecodeError:
            found[False] += 1
        else:
            found[True] += 1
    return found


def check_decoded(
    config: pytest.Config, kind: Descriptor, examples: list[tuple[bool, list[bytes]]]
) -> None:
    found = decoded(kind, examples)
    sessions = f"of {len(examples)} sessions of {kind.name}"
    say(config, f"{found[True]} of {found.total()} answers {sessions} decode")
    assert found[True] >= found.total() / 2


async def check_draft(examples: list[tuple[bool, list[bytes]]]) -> None:
    """Outputs with such a draft are those without one."""
    registry = CollectorRegistry()
    async with servers.target(TARGET) as target, contextlib.AsyncExitStack() as stack:
        server = RawServer(target, draft_pb2)
        address = await stack.enter_async_context(serving(server))
        made = servers.orchestrator(
            [target.address], [address], draft_wait_seconds=0.01, registry=registry
        )
        client = await stack.enter_async_context(made)
        expected = await output(client, Speculation.OFF)
        for server.opens, server.answers in examples:
            assert await output(client, Speculation.FORCE) == expected
        assert server.opened
        assert servers.codes(registry, GENERATE).keys() == {"OK"}


async def check_target(examples: list[tuple[bool, list[bytes]]]) -> None:
    """Outputs with such a target beside a whole one are those of the whole one."""
    registry = CollectorRegistry()
    async with servers.target(TARGET) as target, contextlib.AsyncExitStack() as stack:
        server = RawServer(target, target_pb2)
        server.answers = raw(target_pb2.VerifyResponse())
        address = await stack.enter_async_context(serving(server))
        made = servers.orchestrator([address, target.address], [], registry=registry)
        client = await stack.enter_async_context(made)
        await servers.has_targets(client, 2)
        expected = await output(client, Speculation.OFF)
        for server.opens, server.answers in examples:
            opened = server.opened

            async def met(opened: int = opened) -> bool:
                assert await output(client, Speculation.OFF) == expected
                return server.opened > opened

            await servers.eventually(met)
        assert servers.codes(registry, GENERATE).keys() == {"OK"}
        await servers.nothing_is_left(target)


def test_whatever_a_draft_answers_changes_no_token(
    monkeypatch: pytest.MonkeyPatch, pytestconfig: pytest.Config
) -> None:
    monkeypatch.setattr(replica, "BLAMED_SECONDS", 0.0)
    kind = draft_pb2.DraftResponse.DESCRIPTOR
    examples = drawn(encoded(kind))
    check_decoded(pytestconfig, kind, examples)
    asyncio.run(check_draft(examples))


BREAKS: dict[str, Callable[[Any], None]] = {
    "no tokens": lambda one: one.ClearField("token_ids"),
    "foreign ids": lambda one: one.token_ids.__setitem__(0, 2**31),
    "more verified": lambda one: setattr(one, "verified", one.verified + 40),
    "more accepted": lambda one: setattr(one, "accepted", one.verified + 1),
    "another position": lambda one: setattr(one, "position", one.position + 1),
    "no number": lambda one: setattr(one, "step_seconds", float("nan")),
    "less than nothing": lambda one: setattr(one, "queue_seconds", -1.0),
    "more cached": lambda one: setattr(one, "cached_tokens", PROMPT_TOKENS + 1),
    "logprobs": lambda one: one.logprobs.add(),
}
"""What cannot be of a verdict, whatever else it says."""


@st.composite
def verdicts(draw: st.DrawFn) -> bytes:
    """At the right position, with something that cannot be."""
    verdict = draw(messages(target_pb2.Verdict.DESCRIPTOR))
    verdict.MergeFrom(target_pb2.Verdict(**GOOD))
    verdict.position = PROMPT_TOKENS
    BREAKS[draw(st.sampled_from(sorted(BREAKS)))](verdict)
    return target_pb2.VerifyResponse(verdict=verdict).SerializeToString()


def test_whatever_a_target_answers_changes_no_token(
    monkeypatch: pytest.MonkeyPatch, pytestconfig: pytest.Config
) -> None:
    monkeypatch.setattr(pool, "POLL_SECONDS", 0.02)  # so soon a doubted server is asked again
    kind = target_pb2.VerifyResponse.DESCRIPTOR
    examples = drawn(st.one_of(encoded(kind), verdicts()))
    check_decoded(pytestconfig, kind, examples)
    asyncio.run(check_target(examples))
