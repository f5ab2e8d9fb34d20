"""Clients and servers of the last release with those of today, to the token."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import grpc
import pytest

from paceline.client import Client
from paceline.errors import Unimplemented
from paceline.protocol.generation import GenerateRequest, Speculation
from paceline.protocol.sampling import SamplingParams
from paceline.protocol.status import Role
from tests import servers
from tests.released_wire import message, method_of, old

TARGET = "simulated:step_ms=1"
DRAFT = "simulated:step_ms=0.2,acceptance=0.8"
TOKENS = 48
GENERATE = "/paceline.v1.GenerationService/Generate"


def without_features(found: Any) -> None:
    """As servers answered before they named any."""
    if found.DESCRIPTOR.name == "GetModelInfoResponse":
        del found.model.features[:]


def untouched(found: Any) -> None:
    """As the release answered."""


def a_request(speculation: Speculation) -> GenerateRequest:
    sampling = SamplingParams(temperature=0.9, top_p=0.9)
    return GenerateRequest(
        "once upon", sampling=sampling, seed=7, max_tokens=TOKENS, speculation=speculation
    )


async def tokens_of(client: Client, speculation: Speculation) -> list[int]:
    return [*(await client.generate(a_request(speculation)).result()).choices[0].token_ids]


async def asked(client: Client, path: str, request: Any) -> list[Any]:
    """All answers to a client of the release."""
    method = method_of(path)
    assert method is not None
    answer = message(method.output_type.name)
    async with grpc.aio.insecure_channel(client.address) as channel:
        call = channel.unary_stream(path, type(request).SerializeToString, answer.FromString)
        return [one async for one in call(request, timeout=60)]


def an_old_request(**fields: Any) -> Any:
    request = message("GenerateRequest")(seed=7, max_tokens=TOKENS, **fields)
    request.prompt.text = "once upon"
    request.sampling.temperature = 0.9
    request.sampling.top_p = 0.9
    return request


@asynccontextmanager
async def today() -> AsyncIterator[Client]:
    async with (
        servers.target(TARGET) as target,
        servers.draft(DRAFT) as draft,
        servers.orchestrator([target.address], [draft.address]) as client,
    ):
        yield client


@pytest.mark.parametrize("speculation", ["OFF", "AUTO", "FORCE"])
async def test_an_old_client_streams_from_todays_servers(speculation: str) -> None:
    kind = message("GenerateRequest").DESCRIPTOR.fields_by_name["speculation"].enum_type
    number = kind.values_by_name[f"SPECULATION_{speculation}"].number
    async with today() as client:
        expected = await tokens_of(client, Speculation.OFF)
        events = await asked(client, GENERATE, an_old_request(speculation=number))
    kinds = [event.WhichOneof("event") for event in events]
    assert kinds[0] == "started"
    assert kinds[-1] == "finished"
    assert {*kinds[1:-1]} == {"delta"}, "an event that the release does not know"
    found = [token.id for event in events[1:-1] for token in event.delta.tokens]
    assert found == expected
    assert events[-1].finished.usage.output_tokens == TOKENS


async def test_an_old_client_has_its_other_questions_answered() -> None:
    async with today() as client:
        [listed] = await asked(
            client, "/paceline.v1.GenerationService/ListModels", message("ListModelsRequest")()
        )
        [status] = await asked(
            client, "/paceline.v1.StatusService/GetStatus", message("GetStatusRequest")()
        )
        [model] = await client.models()
    assert [one.name for one in listed.models] == [model.name]
    assert [one.reachable for one in status.servers] == [True, True]


@pytest.mark.parametrize("edit", [untouched, without_features])
async def test_old_servers_work_under_todays_orchestrator(edit: Any) -> None:
    async with (
        servers.target(TARGET) as target,
        servers.draft(DRAFT) as draft,
        servers.orchestrator([target.address], []) as client,
        old(target.address, edit) as (old_target, _),
        old(draft.address, edit) as (old_draft, _),
        servers.orchestrator([old_target], [old_draft]) as through,
    ):
        expected = await tokens_of(client, Speculation.OFF)
        for speculation in Speculation.OFF, Speculation.AUTO, Speculation.FORCE:
            result = await through.generate(a_request(speculation)).result()
            assert [*result.choices[0].token_ids] == expected
        assert result.choices[0].finished.statistics.accepted > 0


@pytest.mark.parametrize("role", [Role.TARGET, Role.DRAFT])
async def test_an_old_server_works_beside_todays(role: Role) -> None:
    async with (
        servers.target(TARGET) as target,
        servers.draft(DRAFT) as draft,
        old(target.address, without_features) as (old_target, _),
        old(draft.address, without_features) as (old_draft, _),
        servers.orchestrator(
            [old_target if role is Role.TARGET else target.address],
            [old_draft if role is Role.DRAFT else draft.address],
        ) as client,
    ):
        plain = await tokens_of(client, Speculation.OFF)
        assert await tokens_of(client, Speculation.FORCE) == plain


async def test_todays_client_streams_from_an_old_orchestrator() -> None:
    async with today() as client, old(client.address) as (address, refused):
        expected = await tokens_of(client, Speculation.OFF)
        async with Client(address, retries=0) as through:
            assert await tokens_of(through, Speculation.FORCE) == expected
            with pytest.raises(Unimplemented):
                await through.detokenize(expected)
    assert refused == ["/paceline.v1.GenerationService/Detokenize"]
