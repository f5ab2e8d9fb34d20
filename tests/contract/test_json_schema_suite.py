"""The JSON-Schema-Test-Suite over real servers: valid, and equal with speculation and without."""

import json
from collections.abc import AsyncIterator

import pytest

from paceline.client import Client
from paceline.errors import InvalidArgument
from paceline.protocol.constraint import json_schema
from paceline.protocol.generation import FinishReason, GenerateRequest, Speculation
from paceline.protocol.sampling import Sampling
from tests import servers
from tests.json_schema_test_suite import CASES, Case
from tests.marks import slow
from tests.tiny_models import EOS, byte_tokenizer, perturbed, tiny_model

TAKEN, REFUSED = 205, 226
CLOSING = dict.fromkeys([*byte_tokenizer().encode('"]}a@:').ids, EOS], 12.0)
"""So that outputs of a random model end: a pattern waits for a, an email for @, a URI for :."""


@pytest.fixture
async def client(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Client]:
    folder = tiny_model(tmp_path_factory.mktemp("target"), "qwen2")
    small = perturbed(folder, tmp_path_factory.mktemp("draft"), 0.05)
    async with (
        servers.target(folder) as target,
        servers.draft(small, drafter="model") as draft,
        servers.orchestrator([target.address], [draft.address]) as client,
    ):
        yield client


async def outputs(client: Client, case: Case, seed: int) -> list[str]:
    """Without speculation and with it."""
    texts = []
    for speculation in (Speculation.OFF, Speculation.FORCE):
        request = GenerateRequest(
            f"{seed}: ",
            sampling=Sampling(
                temperature=1.0, constraint=json_schema(json.dumps(case.schema)), logit_bias=CLOSING
            ),
            seed=seed,
            max_tokens=600,
            speculation=speculation,
        )
        result = await client.generate(request).result()
        assert result.finished.finish_reason is FinishReason.STOP, result.text
        texts.append(result.text)
    return texts


async def check(client: Client, case: Case, seed: int) -> bool:
    """Whether the schema is taken; asserts that its outputs are equal, and what it describes."""
    try:
        off, on = await outputs(client, case, seed)
    except InvalidArgument:
        return False
    assert on == off
    case.check(off)
    return True


async def test_some_schemas_are_held_to(client: Client) -> None:
    taken = [await check(client, case, 1) for case in CASES[::12]]
    assert sum(taken) > 10
    assert not all(taken)


@pytest.mark.parametrize("seed", slow(1, 2))
async def test_all_schemas_are_held_to_or_refused(client: Client, seed: int) -> None:
    taken = [await check(client, case, seed) for case in CASES]
    assert (sum(taken), len(taken) - sum(taken)) == (TAKEN, REFUSED)
