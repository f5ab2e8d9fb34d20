"""The client, over real servers and connections that are really cut."""

import asyncio
import contextlib
import dataclasses
import random
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from paceline.client import Client, Result, SyncClient
from paceline.errors import DeadlineExceeded, InvalidArgument, Unavailable
from paceline.protocol.generation import GenerateRequest, Speculation
from paceline.protocol.sampling import SamplingParams
from tests import servers
from tests.contract.test_features import READABLE, essence
from tests.tiny_models import perturbed, tiny_model


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    target = tiny_model(tmp_path_factory.mktemp("target"), "qwen2")
    return target, perturbed(target, tmp_path_factory.mktemp("draft"), 0.05)


@pytest.fixture
async def port(folders: tuple[Path, Path]) -> AsyncIterator[int]:
    """Of an orchestrator with a target and a draft."""
    async with (
        servers.target(folders[0]) as target,
        servers.draft(folders[1]) as draft,
        servers.orchestrator([target.address], [draft.address]) as client,
    ):
        yield int(client.address.rpartition(":")[2])


class Cutter:
    """A proxy that cuts each connection after some bytes of the server's, until it may not."""

    def __init__(self, port: int, rng: random.Random) -> None:
        self.port = port
        self.rng = rng
        self.cuts = 0
        self.most = 30
        self._tasks: set[asyncio.Task[None]] = set()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        up_reader, up_writer = await asyncio.open_connection("127.0.0.1", self.port)
        budget = self.rng.randrange(250, 1500) if self.cuts < self.most else 10**9
        up = asyncio.create_task(pump(reader, up_writer, 10**9))
        try:
            await pump(up_reader, writer, budget)
        finally:
            self.cuts += 1
            up.cancel()
            for stream in (writer, up_writer):
                stream.transport.abort()


async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, budget: int) -> None:
    with contextlib.suppress(ConnectionError):
        while budget > 0 and (data := await reader.read(min(budget, 200))):
            writer.write(data)
            await writer.drain()
            budget -= len(data)


@contextlib.asynccontextmanager
async def cut_connections(port: int, seed: int) -> AsyncIterator[tuple[str, Cutter]]:
    cutter = Cutter(port, random.Random(seed))
    server = await asyncio.start_server(cutter.serve, "127.0.0.1", 0)
    try:
        yield f"127.0.0.1:{server.sockets[0].getsockname()[1]}", cutter
    finally:
        server.close()


REQUESTS = {
    "plain": GenerateRequest("cut me", seed=1, max_tokens=120, ignore_eos=True),
    "penalties and stop strings": GenerateRequest(
        "cut me",
        seed=2,
        max_tokens=120,
        ignore_eos=True,
        sampling=SamplingParams(
            repetition_penalty=1.2, frequency_penalty=0.4, logit_bias=READABLE, min_tokens=80
        ),
        stop=("a", "bc"),
    ),
    "logprobs and choices": GenerateRequest(
        "cut me", seed=3, max_tokens=40, n=3, logprobs=1, prompt_logprobs=1, ignore_eos=True
    ),
}


@pytest.mark.parametrize("name", REQUESTS)
@pytest.mark.parametrize("seed", [1, 2])
async def test_a_stream_over_a_connection_that_breaks_is_the_undisturbed_one(
    port: int, name: str, seed: int
) -> None:
    request = dataclasses.replace(REQUESTS[name], speculation=Speculation.FORCE)
    async with Client(f"127.0.0.1:{port}") as client:
        whole = await client.generate(request).result()
    async with (
        cut_connections(port, seed) as (address, cutter),
        Client(address, retries=40) as client,
    ):
        result = await client.generate(request).result()
    assert cutter.cuts > 1
    check_same(result, whole)


def check_same(result: Result, whole: Result) -> None:
    assert [essence(one) for one in result.choices] == [essence(one) for one in whole.choices]
    assert result.prompt_logprobs == whole.prompt_logprobs
    for choice in result.choices:
        index, offset = 0, 0
        for delta in choice.deltas:
            assert (delta.token_index, delta.text_offset) == (index, offset)
            index += len(delta.tokens)
            offset += len(delta.text)
        accepted = sum(token.origin.value == "accepted" for token in choice.tokens)
        assert choice.finished.usage.speculated_tokens == accepted


async def test_nobody_there_is_said_after_the_last_attempt() -> None:
    async with Client("127.0.0.1:1", retries=1) as client:
        with pytest.raises(Unavailable, match=r"^nobody answers at 127\.0\.0\.1:1: "):
            await client.generate("x").result()
        with pytest.raises(DeadlineExceeded):
            await client.generate("x", timeout=0.001).result()


async def test_bad_input_is_not_tried_again(port: int) -> None:
    async with Client(f"127.0.0.1:{port}") as client:
        with pytest.raises(InvalidArgument, match="max_tokens is 0"):
            await client.generate(GenerateRequest("x", max_tokens=0), timeout=60).result()


async def test_the_client_without_async_gives_the_same(port: int) -> None:
    request = REQUESTS["penalties and stop strings"]
    async with Client(f"127.0.0.1:{port}") as client:
        whole = await client.generate(request).result()
        models = await client.models()

    def sync() -> None:
        with SyncClient(f"127.0.0.1:{port}") as client:
            assert client.models() == models
            assert client.tokenize("cut me") == whole.started.prompt_token_ids
            assert client.status().servers
            generation = client.generate(request)
            text = "".join(delta.text for delta in generation)
            assert text == whole.text
            assert generation.started is not None
            assert generation.finished is not None
            check_same(client.generate(request).result(), whole)
            for _ in client.generate(request):
                break
            with pytest.raises(InvalidArgument):
                client.generate(GenerateRequest("")).result()
        client.close()

    await asyncio.to_thread(sync)
