"""Every error of the status table is reached from outside, at servers that run."""

import asyncio
import contextlib
import re
from collections.abc import Awaitable, Callable, Iterable
from pathlib import Path
from typing import Any

import grpc
import pytest

from paceline import errors
from paceline.client import Client
from paceline.errors import PacelineError
from paceline.rpc.channels import open_channel
from paceline.rpc.status_codes import code_of, from_rpc_error
from paceline.rpc.tokens import CallerTokens
from paceline.v1 import generation_pb2, generation_pb2_grpc, target_pb2, target_pb2_grpc
from tests import servers
from tests.contract.test_nonsense import VERDICTS, NonsenseTarget, serving

PAGE = Path(__file__).parents[2] / "docs" / "errors.md"
TARGET = "simulated:step_ms=2"
MANY = 20_000
NAMED = (("x-request-id", "one"),)
Found = tuple[grpc.StatusCode, str]


def request(**fields: Any) -> generation_pb2.GenerateRequest:
    prompt = generation_pb2.Prompt(token_ids=generation_pb2.TokenIds(ids=[1, 2, 3]))
    given = {"prompt": prompt, "max_tokens": 8, "seed": 1, "ignore_eos": True, **fields}
    return generation_pb2.GenerateRequest(**given)


class Asked:
    """An orchestrator, over a channel of its own."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self.channel = channel
        self._stub = generation_pb2_grpc.GenerationServiceStub(channel)

    def begin(self, **fields: Any) -> Any:
        return self._stub.Generate(request(**fields), timeout=60, metadata=NAMED)

    async def begun(self, **fields: Any) -> tuple[Any, list[int]]:
        """A call that has its first tokens, and those."""
        call = self.begin(**fields)
        async for event in call:
            if event.delta.tokens:
                return call, [token.id for token in event.delta.tokens]
        raise AssertionError("it ended without a token")


async def ended(call: Any) -> Found:
    """How a call ends."""
    with contextlib.suppress(grpc.aio.AioRpcError, asyncio.CancelledError):
        async for _ in call:
            pass
    return await call.code(), await call.details()


@contextlib.asynccontextmanager
async def orchestrator(targets: Iterable[str] | None = None, **settings: Any) -> Any:
    """One, and a target unless others are named."""
    async with contextlib.AsyncExitStack() as stack:
        if targets is None:
            targets = [(await stack.enter_async_context(servers.target(TARGET))).address]
        client: Client = await stack.enter_async_context(
            servers.orchestrator_alone(list(targets), **settings)
        )
        if targets and not settings.get("callers"):
            await servers.has_targets(client, len(list(targets)))
        yield Asked(await stack.enter_async_context(open_channel(client.address)))


async def of_request(**fields: Any) -> Found:
    async with orchestrator() as asked:
        return await ended(asked.begin(**fields))


async def full() -> Found:
    async with orchestrator(max_streams=1, max_queued=0) as asked:
        running, _ = await asked.begun(max_tokens=MANY)
        found = await ended(asked.begin())
        running.cancel()
        return found


async def without_a_target() -> Found:
    async with servers.orchestrator_alone() as client, open_channel(client.address) as channel:
        return await ended(Asked(channel).begin())


async def late() -> Found:
    """Without a deadline of its own: with one its caller's gRPC would say so, too."""
    async with orchestrator(default_deadline_seconds=0.2) as asked:
        stub = generation_pb2_grpc.GenerationServiceStub(asked.channel)
        return await ended(stub.Generate(request(max_tokens=MANY)))


async def cancelled() -> Found:
    async with orchestrator() as asked:
        call, _ = await asked.begun(max_tokens=MANY)
        call.cancel()
        return await ended(call)


async def resumed() -> Found:
    async with orchestrator() as asked:
        first, seen = await asked.begun(max_tokens=MANY)
        second, _ = await asked.begun(max_tokens=MANY, output_token_ids=seen)
        found = await ended(first)
        second.cancel()
        return found


async def without_a_token() -> Found:
    callers = CallerTokens(None, {"bob": "a-token-of-16-or-more"})
    async with orchestrator(callers=callers) as asked:
        return await ended(asked.begin())


async def at_an_orchestrator_as_if_a_target() -> Found:
    async with orchestrator() as asked:
        stub = target_pb2_grpc.TargetServiceStub(asked.channel)
        return await ended(stub.Verify(iter([target_pb2.VerifyRequest()]), timeout=60))


async def of_nonsense() -> Found:
    async with servers.target(TARGET) as target:
        nonsense = NonsenseTarget(target)
        nonsense.verdicts = VERDICTS["no token"]
        async with serving(nonsense) as address, orchestrator([address]) as asked:
            return await ended(asked.begin())


REACHED: dict[type[PacelineError], tuple[Callable[[], Awaitable[Found]], str]] = {
    errors.InvalidArgument: (lambda: of_request(n=17), "n is 17; it must be from 1 to 16"),
    errors.NotFound: (lambda: of_request(model="none"), "none"),
    errors.FailedPrecondition: (lambda: of_request(fingerprint="other"), "'other' is wanted"),
    errors.ResourceExhausted: (full, "the orchestrator is full: 0 requests wait"),
    errors.Unavailable: (without_a_target, "no target is reachable"),
    errors.DeadlineExceeded: (late, "the output was not whole after 0.2 s"),
    errors.Cancelled: (cancelled, "Locally cancelled by application!"),
    errors.Aborted: (resumed, "the stream was resumed by another call"),
    errors.Unauthenticated: (without_a_token, "metadata authorization is missing"),
    errors.Unimplemented: (at_an_orchestrator_as_if_a_target, "Method not found!"),
    errors.Internal: (of_nonsense, "broke the contract: it decided 0 tokens"),
}
"""What reaches each error, and what is said then."""


@pytest.mark.parametrize("kind", REACHED, ids=lambda kind: kind.__name__)
async def test_every_error_is_reached_from_outside(kind: type[PacelineError]) -> None:
    reach, said = REACHED[kind]
    async with asyncio.timeout(servers.WAIT_SECONDS):
        code, details = await reach()
    assert said in details
    assert code is code_of(kind("reached"))
    empty = grpc.aio.Metadata()
    assert type(from_rpc_error(grpc.aio.AioRpcError(code, empty, empty, details))) in {
        kind,
        # gRPC says so of a peer that is gone, too.
        errors.Unavailable if kind is errors.Cancelled else kind,
    }


def test_no_error_of_the_table_is_left_out() -> None:
    rows = re.findall(r"^\| `(\w+)` \| ([A-Z_]+)", PAGE.read_text(), re.MULTILINE)
    assert set(rows) == {(kind.__name__, code_of(kind("x")).name) for kind in REACHED}
    assert {
        kind for kind in PacelineError.__subclasses__() if kind.__module__ == errors.__name__
    } == (REACHED.keys())
