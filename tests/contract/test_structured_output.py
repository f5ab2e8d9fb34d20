"""Structured output over real servers: valid, and equal with every drafter and without."""

import json
import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from smg_grpc_proto.generated import vllm_engine_pb2 as vllm
from smg_grpc_proto.generated import vllm_engine_pb2_grpc

from paceline.client import Client, Result
from paceline.errors import FailedPrecondition, InvalidArgument
from paceline.protocol.constraint import JSON_OBJECT, Constraint, ConstraintKind, json_schema
from paceline.protocol.generation import FinishReason, GenerateRequest, Speculation
from paceline.protocol.sampling import Sampling
from tests import servers
from tests.tiny_models import perturbed, tiny_model

SCHEMA = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "maxLength": 8},
        "ages": {"type": "array", "items": {"type": "integer", "maximum": 999}, "maxItems": 3},
        "kind": {"enum": ["one", "other"]},
    },
    "required": ["name", "ages", "kind"],
    "additionalProperties": False,
}
WORDS = ("yes", "yesterday", "no")
PATTERN = "[a-f]{3,9}-[0-9]+x"
CONSTRAINTS = {
    "schema": json_schema(json.dumps(SCHEMA)),
    "regex": Constraint(ConstraintKind.REGEX, PATTERN),
    "choice": Constraint(ConstraintKind.CHOICE, options=WORDS),
    "grammar": Constraint(ConstraintKind.GRAMMAR, 'start: ("ab" | "ba")~3 "!"'),
}
Running = tuple[Client, servers.Server, servers.Server]


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    target = tiny_model(tmp_path_factory.mktemp("target"), "qwen2")
    return target, perturbed(target, tmp_path_factory.mktemp("draft"), 0.05)


@pytest.fixture(params=["model", "ngram", "hybrid"])
async def running(
    folders: tuple[Path, Path], request: pytest.FixtureRequest
) -> AsyncIterator[Running]:
    folder = None if request.param == "ngram" else folders[1]
    more = {} if folder is None else {"drafter": request.param}
    async with (
        servers.target(folders[0]) as target,
        servers.draft(folder, **more) as draft,
        servers.orchestrator([target.address], [draft.address]) as client,
    ):
        yield client, target, draft


def holds(name: str, text: str) -> bool:
    if name == "schema":
        value = json.loads(text)
        return (
            set(value) == {"name", "ages", "kind"}
            and len(value["name"]) <= 8
            and len(value["ages"]) <= 3
            and all(isinstance(age, int) and age <= 999 for age in value["ages"])
            and value["kind"] in {"one", "other"}
        )
    if name == "choice":
        return text in WORDS
    return bool(re.fullmatch(PATTERN if name == "regex" else "(ab|ba){3}!", text))


async def ask(client: Client, constraint: Constraint, **fields: Any) -> Result:
    sampling = Sampling(temperature=fields.pop("temperature", 0.0), constraint=constraint)
    given = {"max_tokens": 300, "seed": 5, **fields}
    return await client.generate(
        GenerateRequest("the answer: ", sampling=sampling, **given)
    ).result()


@pytest.mark.parametrize("temperature", [0.0, 1.0])
async def test_outputs_are_valid_whole_and_the_same_with_and_without_speculation(
    running: Running, temperature: float
) -> None:
    client, target, draft = running
    for name, constraint in CONSTRAINTS.items():
        outputs = {}
        for speculation in Speculation:
            result = await ask(client, constraint, temperature=temperature, speculation=speculation)
            outputs[speculation] = result.token_ids
            assert result.finished.finish_reason is FinishReason.STOP
            assert holds(name, result.text), result.text
        assert len(set(outputs.values())) == 1
    await servers.nothing_is_left(target, draft)


async def test_choices_and_a_resumed_stream_are_held_to_it(running: Running) -> None:
    client, _, _ = running
    constraint = CONSTRAINTS["schema"]
    request = GenerateRequest(
        "the answer: ",
        sampling=Sampling(temperature=1.0, constraint=constraint),
        n=3,
        seed=8,
        max_tokens=300,
    )
    whole = await client.generate(request).result()
    assert all(holds("schema", choice.text) for choice in whole.choices)
    alone = await ask(client, constraint, temperature=1.0, seed=8)
    resumed = await client.generate(
        GenerateRequest(
            await client.tokenize("the answer: "),
            sampling=Sampling(temperature=1.0, constraint=constraint),
            seed=8,
            max_tokens=300,
            output_token_ids=alone.token_ids[:7],
        )
    ).result()
    assert resumed.token_ids == alone.token_ids[7:]


async def test_the_draft_is_held_to_it_too(folders: tuple[Path, Path]) -> None:
    """A draft that equals its target is right with every token, as it is without a constraint."""
    async with (
        servers.target(folders[0]) as target,
        servers.draft(folders[0], drafter="model") as draft,
        servers.orchestrator([target.address], [draft.address]) as client,
    ):
        for temperature in (0.0, 1.0):
            result = await ask(
                client,
                CONSTRAINTS["schema"],
                temperature=temperature,
                speculation=Speculation.FORCE,
            )
            assert result.finished.statistics.verified > 0
            assert result.finished.statistics.accepted == result.finished.statistics.verified


async def test_what_cannot_be_held_is_refused_by_name(running: Running) -> None:
    client, target, draft = running
    for constraint, said in (
        (json_schema('{"type": "array", "uniqueItems": true}'), '"uniqueItems"'),
        (json_schema(""), "sampling.constraint.json_schema's length is 0"),
        (Constraint(ConstraintKind.REGEX, "(a"), "constraint.regex: "),
    ):
        with pytest.raises(InvalidArgument) as raised:
            await ask(client, constraint)
        assert said in str(raised.value)
    with pytest.raises(InvalidArgument, match="min_tokens is 3"):
        await client.generate(
            GenerateRequest("x", sampling=Sampling(min_tokens=3, constraint=JSON_OBJECT))
        ).result()
    await servers.nothing_is_left(target, draft)


async def test_a_simulated_target_says_that_its_tokens_have_no_text() -> None:
    async with (
        servers.target("simulated:step_ms=1") as target,
        servers.orchestrator([target.address], []) as client,
    ):
        with pytest.raises(FailedPrecondition):
            await client.generate(
                GenerateRequest((1, 2), sampling=Sampling(constraint=JSON_OBJECT))
            ).result()


async def test_gateways_ask_for_it_in_their_words(running: Running) -> None:
    client, _, _ = running
    ids = await client.tokenize("the answer: ")
    expected = {
        name: (await ask(client, constraint)).token_ids for name, constraint in CONSTRAINTS.items()
    }
    asked: dict[str, dict[str, Any]] = {
        "schema": {"json_schema": json.dumps(SCHEMA)},
        "regex": {"regex": PATTERN},
        "choice": {"choice": vllm.ChoiceConstraint(choices=WORDS)},
        "grammar": {"grammar": CONSTRAINTS["grammar"].text},
    }
    async with grpc.aio.insecure_channel(client.address) as channel:
        stub = vllm_engine_pb2_grpc.VllmEngineStub(channel)
        for name, fields in asked.items():
            sampling = vllm.SamplingParams(temperature=0.0, max_tokens=300, **fields)
            request = vllm.GenerateRequest(
                request_id=name,
                tokenized=vllm.TokenizedInput(input_ids=ids),
                sampling_params=sampling,
            )
            [response] = [one async for one in stub.Generate(request)]
            assert tuple(response.complete.output_ids) == expected[name]
