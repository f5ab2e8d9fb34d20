"""Drafts for plain vLLM, of a real draft server: advice, whatever becomes of it."""

import asyncio
from collections.abc import Iterator

import pytest
from structlog.testing import capture_logs

from paceline.engine.simulated import VOCABULARY_SIZE, SimulatedModel
from paceline.protocol.token_path import TokenPath
from paceline.vllm.remote_drafts import RemoteDrafts
from tests import servers

PROMPT = tuple(b"abc")
SIMULATED = "simulated:step_ms=0"


def truth(count: int) -> tuple[int, ...]:
    """The simulated target's tokens behind the prompt."""
    model, path = SimulatedModel.parse(SIMULATED), TokenPath(PROMPT)
    for _ in range(count):
        path.extend((model.truth(path.digest),))
    return tuple(path.tokens[len(PROMPT) :])


@pytest.fixture
def begun() -> Iterator[list[RemoteDrafts]]:
    """Clients of draft servers, which end with the test."""
    clients: list[RemoteDrafts] = []
    yield clients
    for client in clients:
        client.stop()


async def take(client: RemoteDrafts, length: int) -> list[int]:
    found: list[int] = []

    async def there() -> bool:
        found[:] = client.take("one", length)
        return bool(found)

    await servers.eventually(there)
    return found


async def test_a_request_has_its_drafts_as_it_goes_on(begun: list[RemoteDrafts]) -> None:
    said = truth(12)
    async with servers.draft(SIMULATED, drafter="model") as draft:
        client = RemoteDrafts(draft.address, VOCABULARY_SIZE, 4)
        begun.append(client)
        client.begin("one", PROMPT, 100, frozenset())
        first = await take(client, len(PROMPT))
        assert tuple(first) == said[: len(first)]
        client.commit("one", said[:6])
        then = await take(client, len(PROMPT) + 6)
        assert tuple(then) == said[6 : 6 + len(then)]
        client.commit("one", (ord("Z"),))  # vLLM samples as it likes
        await asyncio.to_thread(client.wait, [("one", len(PROMPT) + 7)], 20.0)
        assert client.take("one", len(PROMPT) + 7)
        client.keep(())
        await servers.nothing_is_left(draft)
        assert client.take("one", len(PROMPT) + 7) == []


async def test_without_a_draft_server_there_are_no_drafts(begun: list[RemoteDrafts]) -> None:
    with capture_logs() as logs:
        client = RemoteDrafts("unix:/nowhere", VOCABULARY_SIZE, 4)
        begun.append(client)
        client.begin("one", PROMPT, 100, frozenset())

        async def told() -> bool:
            return any(line["event"] == "no drafts for a request" for line in logs)

        await servers.eventually(told)
        client.commit("one", (1, 2))
        assert client.take("one", len(PROMPT) + 2) == []


async def test_a_draft_of_a_larger_vocabulary_is_not_asked(begun: list[RemoteDrafts]) -> None:
    with capture_logs() as logs:
        async with servers.draft(SIMULATED, drafter="model") as draft:
            client = RemoteDrafts(draft.address, 100, 4)
            begun.append(client)
            client.begin("one", PROMPT, 100, frozenset())

            async def told() -> bool:
                return any("its vocabulary has 256 tokens" in str(line) for line in logs)

            await servers.eventually(told)
        assert client.take("one", len(PROMPT)) == []
