"""Structured output beside the other parameters: equal with and without speculation."""

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from paceline.client import Client, Result
from paceline.errors import InvalidArgument
from paceline.protocol.constraint import Constraint, ConstraintKind, json_schema
from paceline.protocol.generation import FinishReason, GenerateRequest, Speculation
from paceline.protocol.sampling import Sampling
from tests import servers
from tests.tiny_models import EOS, byte_tokenizer, perturbed, tiny_model

SCHEMA = json_schema(
    {
        "type": "object",
        "properties": {
            "name": {"type": "string", "maxLength": 12},
            "age": {"type": "integer", "maximum": 99, "minimum": 0},
        },
        "required": ["name", "age"],
        "additionalProperties": False,
    }
)
CALL = Constraint(
    ConstraintKind.STRUCTURAL_TAG,
    json.dumps(
        {
            "structures": [
                {"begin": "<f=a>", "schema": json.loads(SCHEMA.text), "end": "</f>"},
                {"begin": "<f=b>", "schema": {"type": "integer"}, "end": "</f>"},
            ],
            "triggers": ["<f="],
        }
    ),
)


def ids(text: str) -> list[int]:
    return list(byte_tokenizer().encode(text).ids)


@pytest.fixture
async def client(tmp_path: Path) -> AsyncIterator[Client]:
    folder = tiny_model(tmp_path / "target", "qwen2")
    small = perturbed(folder, tmp_path / "draft", 0.05)
    async with (
        servers.target(folder) as target,
        servers.draft(small, drafter="model") as draft,
        servers.orchestrator([target.address], [draft.address]) as client,
    ):
        yield client


async def both(
    client: Client, constraint: Constraint = SCHEMA, **fields: Any
) -> tuple[Result, Result]:
    """Off and forced, whose choices' tokens are asserted to be equal."""
    names = {"presence_penalty", "frequency_penalty", "repetition_penalty", "logit_bias"}
    own = {name: fields.pop(name) for name in names & fields.keys()}
    own |= fields.pop("sampling", {})
    results = []
    for speculation in (Speculation.OFF, Speculation.FORCE):
        sampling = Sampling(temperature=1.0, constraint=constraint, **own)
        given = {"max_tokens": 300, "seed": 5, **fields}
        request = GenerateRequest("x: ", sampling=sampling, speculation=speculation, **given)
        results.append(await client.generate(request).result())
    off, on = results
    assert [one.token_ids for one in off.choices] == [one.token_ids for one in on.choices]
    return off, on


def whole(text: str) -> bool:
    value = json.loads(text)
    return set(value) == {"name", "age"} and len(value["name"]) <= 12 and 0 <= value["age"] <= 99


async def test_penalties_and_biases_move_within_the_language(client: Client) -> None:
    for fields in (
        {"presence_penalty": 2.0, "frequency_penalty": 2.0},
        {"repetition_penalty": 1.7},
        {"logit_bias": {EOS: 100.0}},
        {"logit_bias": dict.fromkeys(ids('{"'), -100.0)},
    ):
        off, _ = await both(client, **fields)
        assert whole(off.text)
        assert off.finished.finish_reason is FinishReason.STOP


async def test_logprobs_are_the_same_and_the_models_own(client: Client) -> None:
    off, on = await both(client, logprobs=3)
    assert whole(off.text)
    told, again = (
        [token.logprobs for delta in one.choices[0].deltas for token in delta.tokens]
        for one in (off, on)
    )
    assert told == again
    assert None not in told


async def test_a_stop_string_ends_the_output_before_it_is_whole(client: Client) -> None:
    off, on = await both(client, stop=('"age"',))
    assert off.text == on.text
    assert off.finished.finish_reason is FinishReason.STOP
    assert '"age"' not in off.text
    assert off.text.lstrip().startswith("{")


async def test_an_output_that_is_cut_by_its_length_says_so(client: Client) -> None:
    off, _ = await both(client, max_tokens=3)
    assert off.finished.finish_reason is FinishReason.LENGTH


async def test_choices_are_each_of_the_language(client: Client) -> None:
    off, _ = await both(client, n=3)
    assert all(whole(choice.text) for choice in off.choices)


async def test_bad_words_that_leave_no_token_do_not_hold(client: Client) -> None:
    words = tuple((token,) for token in ids("{ \n\r\t"))
    off, _ = await both(client, sampling={"bad_words_token_ids": words})
    assert whole(off.text)


async def test_structural_tags_are_equal_too(client: Client) -> None:
    bias = dict.fromkeys(ids("<f=b>12"), 30.0)
    off, _ = await both(client, CALL, logit_bias=bias, max_tokens=200)
    assert off.text


@pytest.mark.parametrize(("field", "value"), [("min_tokens", 3), ("allowed_token_ids", (5, 6))])
async def test_what_contradicts_it_is_refused(client: Client, field: str, value: Any) -> None:
    with pytest.raises(InvalidArgument, match=f"{field}.*where sampling.constraint is set"):
        await both(client, sampling={field: value})
