"""Whatever is sent to whatever method of a server, it answers with a code of ours and lives on."""

import asyncio
import contextlib
import os
import threading
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import grpc
import pytest
from google.protobuf import message_factory
from google.protobuf.descriptor import Descriptor, FieldDescriptor, MethodDescriptor
from google.protobuf.message import DecodeError
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry

from paceline.protocol.generation import GenerateRequest
from paceline.rpc.channels import open_channel
from paceline.v1 import draft_pb2, generation_pb2, model_pb2, status_pb2, target_pb2
from tests import servers

DEPTH = 4
MOST_MESSAGES = 5
SECONDS = 0.3
"""A call is cancelled after this, or a few responses."""
MOST_RESPONSES = 8
ORCHESTRATOR, TARGET, DRAFT = "orchestrator", "target", "draft"
SERVES = {
    ORCHESTRATOR: (generation_pb2, status_pb2),
    TARGET: (target_pb2, model_pb2),
    DRAFT: (draft_pb2, model_pb2),
}
METHODS = [
    (role, method)
    for role, modules in SERVES.items()
    for module in modules
    for service in module.DESCRIPTOR.services_by_name.values()
    for method in service.methods
]
OURS = {
    grpc.StatusCode.OK,
    grpc.StatusCode.INVALID_ARGUMENT,
    grpc.StatusCode.NOT_FOUND,
    grpc.StatusCode.FAILED_PRECONDITION,
    grpc.StatusCode.RESOURCE_EXHAUSTED,
    grpc.StatusCode.CANCELLED,
    grpc.StatusCode.DEADLINE_EXCEEDED,
    grpc.StatusCode.ABORTED,
}
"""Without UNAVAILABLE: all servers are there. CANCELLED and DEADLINE_EXCEEDED are made here."""
MADE_HERE = grpc.StatusCode.INTERNAL, "Internal error from Core"
"""By gRPC, where a call has ended before all was sent; what the server said is in its metrics."""

MADE = "ended by the server before all was sent"
_INTS = st.sampled_from([0, 1, 2, 3, 7, 255, 256, 2**31 - 1]) | st.integers(0, 300)
_FLOATS = st.sampled_from([0.0, 1.0, 0.5, -1.0, 1e-30, 1e30, float("nan"), float("inf")])
_TEXTS = st.sampled_from(["", "a", "simulated", "generate me", "\0", "\u00e9\U0001f600", "x" * 300])


def scalar(one: FieldDescriptor) -> st.SearchStrategy[Any]:
    """Values of a field that is no message."""
    if one.cpp_type in {FieldDescriptor.CPPTYPE_INT32, FieldDescriptor.CPPTYPE_INT64}:
        return _INTS | _INTS.map(lambda value: -value)
    if one.cpp_type in {FieldDescriptor.CPPTYPE_UINT32, FieldDescriptor.CPPTYPE_UINT64}:
        return _INTS
    if one.cpp_type in {FieldDescriptor.CPPTYPE_DOUBLE, FieldDescriptor.CPPTYPE_FLOAT}:
        return _FLOATS
    if one.cpp_type == FieldDescriptor.CPPTYPE_BOOL:
        return st.booleans()
    if one.cpp_type == FieldDescriptor.CPPTYPE_ENUM:
        return st.integers(0, 5)
    return st.binary(max_size=20) if one.type == FieldDescriptor.TYPE_BYTES else _TEXTS


@st.composite
def messages(draw: st.DrawFn, kind: Descriptor, depth: int = DEPTH) -> Any:
    """Messages of a kind; every second field, about, is set."""
    message: Any = message_factory.GetMessageClass(kind)()
    for one in kind.fields:
        if not draw(st.booleans()):
            continue
        count = draw(st.integers(1, 3)) if one.is_repeated else 1
        for _ in range(count):
            if one.message_type is not None and one.message_type.GetOptions().map_entry:
                continue
            if one.message_type is None:
                value = draw(scalar(one))
                if one.is_repeated:
                    getattr(message, one.name).append(value)
                else:
                    setattr(message, one.name, value)
            elif depth:
                value = draw(messages(one.message_type, depth - 1))
                inside = getattr(message, one.name)
                if one.is_repeated:
                    inside.append(value)
                else:
                    inside.CopyFrom(value)
    return message


def encoded(kind: Descriptor) -> st.SearchStrategy[bytes]:
    """Most are messages; others are cut, or are anything."""
    whole = messages(kind).map(lambda message: message.SerializeToString())
    cut = st.tuples(whole, st.integers(1, 9)).map(lambda pair: pair[0][: -pair[1]])
    others = st.one_of(cut, st.binary(max_size=60))
    return st.integers(0, 9).flatmap(lambda drawn: whole if drawn else others)


def say(config: pytest.Config, what: str) -> None:
    """A line on the screen, whatever pytest captures, where somebody asked for many inputs."""
    capture = config.pluginmanager.getplugin("capturemanager")
    shown = capture.global_and_fixture_disabled() if "FUZZ_INPUTS" in os.environ else None
    with shown or contextlib.nullcontext():
        print(f"fuzz: {what}", flush=True)  # noqa: T201


@dataclass
class Fuzzed:
    """Servers that run on a thread of their own, and what was seen of them."""

    addresses: dict[str, str]
    loop: asyncio.AbstractEventLoop
    config: pytest.Config
    codes: Counter[str] = field(default_factory=Counter)
    decoded: Counter[bool] = field(default_factory=Counter)
    since: float = field(default_factory=time.monotonic)

    def run(self, work: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self.loop).result(60)

    def note(self, kind: Descriptor, sent: list[bytes]) -> None:
        for one in sent:
            try:
                message_factory.GetMessageClass(kind).FromString(one)
            except DecodeError:
                self.decoded[False] += 1
            else:
                self.decoded[True] += 1

    def say(self, what: str) -> None:
        """How far it is."""
        seconds = time.monotonic() - self.since
        say(self.config, f"{what}; {self.codes.total()} inputs in {seconds:.0f} s")

    def say_all(self) -> None:
        """What came of all."""
        codes = ", ".join(f"{name} {count}" for name, count in sorted(self.codes.items()))
        self.say(f"{self.decoded[True]} of {self.decoded.total()} messages decoded; {codes}")


@pytest.fixture(scope="module")
def fuzzed(pytestconfig: pytest.Config) -> Iterator[Fuzzed]:
    ready: Any = threading.Event()
    found: list[Any] = []

    async def serve() -> None:
        registry = CollectorRegistry()
        async with (
            servers.target("simulated:step_ms=1") as target,
            servers.draft("simulated:step_ms=1", drafter="hybrid") as draft,
            servers.orchestrator([target.address], [draft.address], registry=registry) as client,
        ):
            addresses = {ORCHESTRATOR: client.address, TARGET: target.address, DRAFT: draft.address}
            over = asyncio.Event()
            found.extend((Fuzzed(addresses, asyncio.get_running_loop(), pytestconfig), over))
            ready.set()
            await over.wait()
            result = await client.generate(GenerateRequest("alive", max_tokens=8)).result()
            assert len(result.token_ids) == 8
            await servers.nothing_is_left(target, draft)
            for role, one in ((ORCHESTRATOR, registry), (TARGET, target.registry),
                              (DRAFT, draft.registry)):  # fmt: skip
                for method in (method for of, method in METHODS if of == role):
                    path = f"/{method.containing_service.full_name}/{method.name}"
                    assert not servers.codes(one, path).keys() & {"INTERNAL", "UNKNOWN"}
            found.append("whole")

    thread = threading.Thread(target=lambda: asyncio.run(serve()))
    thread.start()
    assert ready.wait(60)
    fuzzed, over = found[:2]
    yield fuzzed
    fuzzed.loop.call_soon_threadsafe(over.set)
    thread.join(120)
    fuzzed.say_all()
    assert found[2:] == ["whole"]
    assert fuzzed.decoded[True] >= fuzzed.decoded.total() / 2


async def call(fuzzed: Fuzzed, role: str, method: MethodDescriptor, sent: list[bytes]) -> Any:
    """The code that a call of raw messages ends with."""
    path = f"/{method.containing_service.full_name}/{method.name}"

    async def requests() -> Any:
        for one in sent:
            yield one
            await asyncio.sleep(0)

    async with open_channel(fuzzed.addresses[role]) as channel:
        if method.client_streaming:
            begun: Any = channel.stream_stream(path)(requests(), timeout=SECONDS)
        elif method.server_streaming:
            of_one: Any = channel.unary_stream(path)
            begun = of_one(sent[0], timeout=SECONDS)
        else:
            of_one = channel.unary_unary(path)
            begun = of_one(sent[0], timeout=10.0)
        with contextlib.suppress(grpc.aio.AioRpcError, asyncio.CancelledError):
            if not method.server_streaming:
                await begun
            else:
                for _ in range(MOST_RESPONSES):
                    if await begun.read() is grpc.aio.EOF:
                        break
                else:
                    begun.cancel()
        return await begun.code(), await begun.details()


def fuzz(fuzzed: Fuzzed, role: str, method: MethodDescriptor, examples: int) -> None:
    """Send so many inputs to a method."""
    most = MOST_MESSAGES if method.client_streaming else 1

    @settings(
        max_examples=examples,
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(st.lists(encoded(method.input_type), min_size=1, max_size=most))
    def send(sent: list[bytes]) -> None:
        fuzzed.note(method.input_type, sent)
        code, details = fuzzed.run(call(fuzzed, role, method, sent))
        fuzzed.codes[MADE if (code, details) == MADE_HERE else code.name] += 1
        if fuzzed.codes.total() % SAID_EVERY == 0:
            fuzzed.say(f"{role} {method.name}")
        assert code in OURS or (code, details) == MADE_HERE, (code, details)

    send()


SAID_EVERY = 1000
INPUTS = int(os.environ.get("FUZZ_INPUTS", "100"))
"""Sent to each method; `make fuzz` sends more."""
IDS = [f"{role}-{method.name}" for role, method in METHODS]


@pytest.mark.parametrize(("role", "method"), METHODS, ids=IDS)
def test_whatever_is_sent_has_an_answer_of_ours(
    fuzzed: Fuzzed, role: str, method: MethodDescriptor
) -> None:
    fuzz(fuzzed, role, method, INPUTS)
