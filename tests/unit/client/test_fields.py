"""Fields of a request as keywords of generate: what they become, and what is said of others."""

import re
from collections.abc import Callable
from typing import Any, get_type_hints

import pytest

from paceline.client import Client, SyncClient
from paceline.client.fields import (
    ELSEWHERE,
    INSTEAD,
    OF_REQUEST,
    OF_SAMPLING,
    RequestFields,
    request_with,
)
from paceline.errors import InvalidArgument
from paceline.protocol.generation import GenerateRequest
from paceline.protocol.sampling import Sampling

AnyClient: Any = Client
client: Any = Client("unix:/nowhere")
sync: Any = SyncClient("unix:/nowhere")


def test_every_field_is_a_keyword_with_its_type() -> None:
    of_both = get_type_hints(GenerateRequest) | get_type_hints(Sampling)
    del of_both["prompt"]
    assert get_type_hints(RequestFields) == of_both
    assert not set(OF_REQUEST) & set(OF_SAMPLING)


def test_keywords_stand_for_the_request_and_its_sampling() -> None:
    meant = GenerateRequest("x", max_tokens=4, sampling=Sampling(temperature=0.0, top_k=5))
    assert request_with("x", {"max_tokens": 4, "temperature": 0.0, "top_k": 5}) == meant
    assert request_with("x", {}) == GenerateRequest("x")
    assert client.generate("x", max_tokens=4, stop="end")._request.stop == ("end",)
    assert client.generate(prompt="x", temperature=0)._request.sampling.temperature == 0.0


def test_keywords_come_before_what_a_request_has() -> None:
    request = GenerateRequest("x", seed=1, max_tokens=9, sampling=Sampling(top_p=0.5, top_k=2))
    found = request_with(request, {"max_tokens": 4, "top_k": 7})
    assert found == GenerateRequest(
        "x", seed=1, max_tokens=4, sampling=Sampling(top_p=0.5, top_k=7)
    )
    both = request_with("x", {"sampling": Sampling(top_p=0.5), "temperature": 1.0})
    assert both.sampling == Sampling(top_p=0.5, temperature=1.0)
    assert request.max_tokens == 9


REFUSED: dict[str, Callable[[], object]] = {
    "generate has no field 'max_token'; write max_tokens=": lambda: client.generate(
        "x", max_token=4
    ),
    "generate has no field 'temprature'; write temperature=": lambda: sync.generate(
        "x", temprature=0
    ),
    "generate has no field 'messages'; write prompt=": lambda: client.generate(messages=[]),
    "generate has no field 'max_completion_tokens'; write max_tokens=": lambda: sync.generate(
        "x", max_completion_tokens=4
    ),
    "generate has no field 'stream'; there is nothing to set: every generation is a stream, and "
    "result() waits for the whole": lambda: client.generate("x", stream=True),
    "generate has no field 'tools'; a Chat takes it: generate(Chat(messages, tools=...))": (
        lambda: client.generate("x", tools=[])
    ),
    "generate has no field 'zzz'; it has those of GenerateRequest and of Sampling": (
        lambda: client.generate("x", zzz=1)
    ),
    "max_tokens is '4'; it must be a whole number": lambda: client.generate("x", max_tokens="4"),
    "sampling.temperature is '1'; it must be a number": lambda: sync.generate("x", temperature="1"),
    "sampling is of type dict; it must be a Sampling": lambda: client.generate(
        "x", sampling={}, temperature=1.0
    ),
    "prompt is None; it must be text, token ids or a list of messages": client.generate,
}


@pytest.mark.parametrize("said", REFUSED)
def test_what_is_no_field_or_has_a_wrong_type_is_named(said: str) -> None:
    with pytest.raises(InvalidArgument, match=f"^{re.escape(said)}$"):
        REFUSED[said]()


def test_names_of_other_libraries_lead_to_fields_that_there_are() -> None:
    assert set(ELSEWHERE.values()) <= {*OF_REQUEST, *OF_SAMPLING}
    assert not (set(ELSEWHERE) | set(INSTEAD)) & {*OF_REQUEST, *OF_SAMPLING}
