"""Async used as sync and the other way round, and a generation as its result: what is said."""

import copy
import pickle
import re
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from paceline.client import Client, SyncClient
from paceline.errors import FailedPrecondition

client: Any = Client("unix:/nowhere")
sync: Any = SyncClient("unix:/nowhere")
OF_CLIENT = "a Client is for async code: write {}, or use SyncClient"
OF_SYNC = "a SyncClient is for code without async: write {}, or use Client"


def with_client() -> None:
    with client:
        pass


def with_generation() -> None:
    with client.generate("x"):
        pass


MISUSED: dict[str, list[Callable[[], object]]] = {
    OF_CLIENT.format("async for"): [lambda: list(client.generate("x"))],
    OF_CLIENT.format("async with"): [with_client, with_generation],
    OF_CLIENT.format("anext(aiter(generation))"): [lambda: next(client.generate("x"))],
    "a generation is no iterator itself: write iter(generation)": [
        lambda: next(sync.generate("x"))
    ],
    "text is of the whole output: write await ....result().text": [
        lambda: client.generate("x").text
    ],
    "choices is of the whole output: write ....result().choices": [
        lambda: sync.generate("x").choices
    ],
}


PROCESS = (
    "neither a client nor its generation can be pickled or copied: "
    "make a client in each process, from its address"
)
MISUSED[PROCESS] = [
    lambda: pickle.dumps(client),
    lambda: pickle.dumps(sync.generate("x")),
    lambda: copy.deepcopy(sync),
    lambda: copy.copy(client.generate("x")),
]


@pytest.mark.parametrize("said", MISUSED)
def test_without_async(said: str) -> None:
    for misuse in MISUSED[said]:
        with pytest.raises(FailedPrecondition, match=f"^{re.escape(said)}$"):
            misuse()


async def iterate(generation: Any) -> None:
    async for _ in generation:
        pass


async def entered(one: Any) -> None:
    async with one:
        pass


async def awaited(one: Any) -> None:
    await one


async def following(one: Any) -> None:
    await anext(one)


MISUSED_BY_ASYNC: dict[str, list[Callable[[], Coroutine[Any, Any, None]]]] = {
    OF_SYNC.format("for"): [lambda: iterate(sync.generate("x"))],
    OF_SYNC.format("with"): [lambda: entered(sync), lambda: entered(sync.generate("x"))],
    OF_SYNC.format("....result() without await"): [lambda: awaited(sync.generate("x"))],
    OF_SYNC.format("next(iter(generation))"): [lambda: following(sync.generate("x"))],
    "a generation is not awaited itself: write await ....result()": [
        lambda: awaited(client.generate("x"))
    ],
    "a generation is no iterator itself: write aiter(generation)": [
        lambda: following(client.generate("x"))
    ],
}


@pytest.mark.parametrize("said", MISUSED_BY_ASYNC)
async def test_with_async(said: str) -> None:
    for misuse in MISUSED_BY_ASYNC[said]:
        with pytest.raises(FailedPrecondition, match=f"^{re.escape(said)}$"):
            await misuse()


def test_what_a_generation_has_not_is_an_attribute_error_as_ever() -> None:
    for generation in (client.generate("x"), sync.generate("x")):
        assert not hasattr(generation, "text")
        assert generation.started is None
        with pytest.raises(AttributeError, match="object has no attribute 'nonsense'"):
            _ = generation.nonsense
