"""What counters of calls say: an end that is meant is none of an error."""

import asyncio
import contextlib
from typing import Any

import grpc
import pytest
from prometheus_client import CollectorRegistry

from orchestrator.serving.generation import Serving
from paceline.client import Client
from paceline.errors import DeadlineExceeded
from paceline.protocol.generation import GenerateRequest, Speculation
from paceline.rpc import deadline
from paceline.rpc.interceptors import CallInterceptor, RpcMetrics
from tests import servers
from tests.servers import codes, eventually

GENERATE = "/paceline.v1.GenerationService/Generate"
VERIFY = "/paceline.v1.TargetService/Verify"
DRAFT = "/paceline.v1.DraftService/Draft"
SLOW = "simulated:step_ms=5"


def request(tokens: int = 20_000) -> GenerateRequest:
    return GenerateRequest(
        "go on", max_tokens=tokens, ignore_eos=True, speculation=Speculation.FORCE
    )


async def begun(client: Client) -> "asyncio.Task[None]":
    """A stream that has its first token, and goes on for long."""
    first = asyncio.Event()

    async def read() -> None:
        async for _ in client.generate(request()):
            first.set()

    task = asyncio.create_task(read())
    await asyncio.wait_for(first.wait(), servers.WAIT_SECONDS)
    return task


async def ended(task: "asyncio.Task[None]") -> None:
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def test_sessions_that_their_orchestrator_closes_end_well() -> None:
    registry = CollectorRegistry()
    async with (
        servers.target(SLOW) as target,
        servers.draft(SLOW, drafter="model") as draft,
        servers.orchestrator([target.address], [draft.address], registry=registry) as client,
    ):
        await client.generate(request(20)).result()
        await ended(await begun(client))  # by its client

        async def counted() -> bool:
            found = [codes(one.registry, name) for one, name in ((target, VERIFY), (draft, DRAFT))]
            return all(one.total() == 2 for one in found)

        await eventually(counted)
        assert codes(target.registry, VERIFY) == {"OK": 2}
        assert codes(draft.registry, DRAFT) == {"OK": 2}
        assert codes(registry, GENERATE) == {"OK": 1, "CANCELLED": 1}
        with pytest.raises(DeadlineExceeded):
            await client.generate(request(), timeout=0.5).result()
        assert codes(registry, GENERATE)["DEADLINE_EXCEEDED"] == 1


def outcomes(registry: CollectorRegistry) -> dict[str, float]:
    """Streams that have ended, by outcome."""
    return {
        sample.labels["outcome"]: sample.value
        for family in registry.collect()
        for sample in family.samples
        if sample.name == "paceline_streams_total"
    }


async def counted_as(
    client: Client, registry: CollectorRegistry, timeout: float
) -> dict[str, float]:
    """How a stream is counted whose client gives it so many seconds."""
    with pytest.raises(DeadlineExceeded):
        await client.generate(request(), timeout=timeout).result()

    async def counted() -> bool:
        return bool(outcomes(registry))

    await eventually(counted)
    return outcomes(registry)


@pytest.mark.parametrize("margin", [deadline.MARGIN_SECONDS, -0.05])
async def test_a_clients_deadline_is_no_client_that_went(
    margin: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whichever comes first: the server's timer, or that the client gives up."""
    monkeypatch.setattr(deadline, "MARGIN_SECONDS", margin)
    registry = CollectorRegistry()
    async with (
        servers.target(SLOW) as target,
        servers.orchestrator([target.address], [], registry=registry) as client,
    ):
        assert await counted_as(client, registry, 0.5) == {"deadline_exceeded": 1.0}


async def test_nor_where_its_prompt_took_long_to_read(monkeypatch: pytest.MonkeyPatch) -> None:
    admit = Serving._admit

    async def slowly(*given: Any) -> Any:
        await asyncio.sleep(0.4)
        return await admit(*given)

    monkeypatch.setattr(Serving, "_admit", slowly)
    registry = CollectorRegistry()
    async with (
        servers.target(SLOW) as target,
        servers.orchestrator([target.address], [], registry=registry) as client,
    ):
        assert await counted_as(client, registry, 0.8) == {"deadline_exceeded": 1.0}


async def test_sessions_that_their_server_cuts_off_do_not() -> None:
    async with contextlib.AsyncExitStack() as stack:
        target = await stack.enter_async_context(servers.target(SLOW))
        async with servers.orchestrator([target.address], []) as client:
            task = await begun(client)
            assert not codes(target.registry, VERIFY)
            await stack.aclose()
            assert codes(target.registry, VERIFY) == {"UNAVAILABLE": 1}
            await ended(task)


class Context:
    """A call's."""

    def __init__(self, left: float | None) -> None:
        self._left = left

    def time_remaining(self) -> float | None:
        return self._left


@pytest.mark.parametrize(
    ("left", "is_session", "stopping", "code"),
    [
        (None, False, False, grpc.StatusCode.CANCELLED),
        (9.0, False, False, grpc.StatusCode.CANCELLED),
        (9.0, True, False, grpc.StatusCode.OK),
        (9.0, True, True, grpc.StatusCode.UNAVAILABLE),
        (0.0, True, False, grpc.StatusCode.DEADLINE_EXCEEDED),
        (0.0, False, True, grpc.StatusCode.DEADLINE_EXCEEDED),
    ],
)
def test_what_a_call_that_is_cancelled_counts_as(
    left: float | None, is_session: bool, stopping: bool, code: grpc.StatusCode
) -> None:
    calls = CallInterceptor(RpcMetrics(CollectorRegistry()))
    calls.stopping = stopping
    assert calls._code_of_cancelled(Context(left), is_session=is_session) is code  # type: ignore[arg-type]
