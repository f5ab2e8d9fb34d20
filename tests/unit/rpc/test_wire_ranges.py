"""A request that no message can carry is refused by name, and what it says is not quoted."""

from dataclasses import replace
from typing import Any

import pytest

from paceline.client import Client
from paceline.errors import InvalidArgument
from paceline.protocol.constraint import Constraint, ConstraintKind
from paceline.protocol.generation import ChatMessage, GenerateRequest, Prompt
from paceline.protocol.sampling import Sampling
from paceline.rpc.codec.generation import (
    detokenize_to_proto,
    prompt_to_proto,
    request_from_proto,
    request_to_proto,
)

HALF = "tulips\ud800"
REQUEST = GenerateRequest("x", sampling=Sampling(top_k=2**32 - 1), seed=2**64 - 1)


def sampling(**fields: Any) -> GenerateRequest:
    return GenerateRequest("x", sampling=Sampling(**fields))


UNSENDABLE = {
    "seed is -1; it must be a whole number from 0 to 18446744073709551615": replace(
        REQUEST, seed=-1
    ),
    f"seed is {2**64}; it must be": replace(REQUEST, seed=2**64),
    "seed is 1.5; it must be": replace(REQUEST, seed=1.5),  # type: ignore[arg-type]
    "sampling.top_k is -1; it must be a whole number from 0 to 4294967295": sampling(top_k=-1),
    f"sampling.top_k is {2**32}; it must": sampling(top_k=2**32),
    "sampling.min_tokens is -1; it must": sampling(min_tokens=-1),
    "a token id in sampling.logit_bias is -1; it must": sampling(logit_bias={-1: 1.0}),
    f"max_tokens is {2**40}; it must": replace(REQUEST, max_tokens=2**40),
    "n is -1; it must": replace(REQUEST, n=-1),
    "logprobs is -1; it must": replace(REQUEST, logprobs=-1),
    "prompt_logprobs is -1; it must": replace(REQUEST, prompt_logprobs=-1),
    f"priority is {2**31}; it must": replace(REQUEST, priority=2**31),
    "a token id in sampling.allowed_token_ids is -1": sampling(allowed_token_ids=(1, -1)),
    f"a token id in sampling.bad_words_token_ids is {2**32}; it must": sampling(
        bad_words_token_ids=((1,), (2, 2**32))
    ),
    f"truncate_prompt_tokens is {2**31}; it must": replace(REQUEST, truncate_prompt_tokens=2**31),
    "a string of bad_words is wrong at character 6": replace(REQUEST, bad_words=("a", HALF)),
    "sampling.constraint.regex is wrong at character 6": sampling(
        constraint=Constraint(ConstraintKind.REGEX, HALF)
    ),
    "a token id in prompt is -1; it must": replace(REQUEST, prompt=(1, -1)),
    "a token id in output_token_ids is -1": replace(REQUEST, output_token_ids=(-1,)),
    f"a token id in stop_token_ids is {2**32}": replace(REQUEST, stop_token_ids=(2**32,)),
    "prompt is wrong at character 6; it must be": replace(REQUEST, prompt=HALF),
    "prompt.chat is wrong at character 6": replace(REQUEST, prompt=(ChatMessage("user", HALF),)),
    "a string of stop is wrong at character 6": replace(REQUEST, stop=("a", HALF)),
    "cache_salt is wrong at character 6": replace(REQUEST, cache_salt=HALF),
    "model is wrong at character 6": replace(REQUEST, model=HALF),
    "a field of the request has a value of another type": sampling(temperature="hot"),
}


@pytest.mark.parametrize("said", UNSENDABLE)
def test_what_does_not_fit_a_message_is_named(said: str) -> None:
    with pytest.raises(InvalidArgument) as raised:
        request_to_proto(UNSENDABLE[said])
    assert str(raised.value).startswith(said)
    assert "tulips" not in f"{raised.value!r} {raised.value.__cause__!r}"


def test_the_largest_values_fit() -> None:
    assert request_from_proto(request_to_proto(REQUEST)) == REQUEST


@pytest.mark.parametrize("prompt", [HALF, (1, -1), (ChatMessage(HALF, "x"),)])
def test_so_is_a_prompt_alone(prompt: Prompt) -> None:
    with pytest.raises(InvalidArgument, match=r"^(a token id in )?prompt"):
        prompt_to_proto(prompt)


@pytest.mark.parametrize(
    ("token_ids", "said"),
    [
        ((1, -1), "a token id in token_ids is -1; it must be a whole number from 0 to 4294967295"),
        (
            "tulips",
            "a token id in token_ids is 't'; it must be a whole number from 0 to 4294967295",
        ),
        (5, "token_ids is of another type; it must be token ids"),
    ],
)
def test_so_are_ids_that_are_to_become_text(token_ids: Any, said: str) -> None:
    with pytest.raises(InvalidArgument) as raised:
        detokenize_to_proto(token_ids, "", skip_special_tokens=True)
    assert str(raised.value) == said


@pytest.mark.parametrize("request_id", ["é", "a\tb", "x" * 129, "\ud800"])
async def test_a_request_id_that_metadata_cannot_carry_is_refused(request_id: str) -> None:
    async with Client("unix:/nowhere") as client:
        with pytest.raises(InvalidArgument, match="metadata x-request-id is"):
            client.generate("x", request_id=request_id)
