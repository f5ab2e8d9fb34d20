"""Sampling that a client leaves open is the model's own, over real servers; resumed as begun."""

import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from paceline.client import Client, Result
from paceline.protocol.generation import GenerateRequest
from paceline.protocol.sampling import Sampling, SamplingParams
from tests import servers
from tests.tiny_models import EOS, perturbed, tiny_model

OWN = {"temperature": 0.7, "top_k": 5, "repetition_penalty": 1.3, "top_p": 2.0}
HOLDS = SamplingParams(0.7, 5, repetition_penalty=1.3)
"""top_p is none that anybody may ask for."""
Both = tuple[Client, Client]


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    target = tiny_model(tmp_path_factory.mktemp("target"))
    draft = perturbed(target, tmp_path_factory.mktemp("draft"), 0.05)
    content = {"eos_token_id": EOS, **OWN}
    (target / "generation_config.json").write_text(json.dumps(content))
    return target, draft


@pytest.fixture
async def both(folders: tuple[Path, Path]) -> AsyncIterator[Both]:
    """Clients of an orchestrator that heeds the model's own sampling, and of one that does not."""
    async with (
        servers.target(folders[0]) as target,
        servers.draft(folders[1]) as draft,
        servers.orchestrator([target.address], [draft.address]) as heeding,
        servers.orchestrator(
            [target.address], [draft.address], generation_config="none"
        ) as neutral,
    ):
        yield heeding, neutral


async def result(client: Client, sampling: Sampling, **more: object) -> Result:
    fields = {"prompt": "by default", "seed": 11, "max_tokens": 24, "ignore_eos": True, **more}
    return await client.generate(GenerateRequest(sampling=sampling, **fields)).result()  # type: ignore[arg-type]


async def test_what_is_left_open_is_the_models_own(both: Both) -> None:
    heeding, neutral = both
    default = await result(heeding, Sampling())
    assert default.started.sampling == HOLDS
    assert default.token_ids == (await result(neutral, HOLDS)).token_ids
    none = await result(neutral, Sampling())
    assert none.started.sampling == SamplingParams()
    assert none.token_ids == (await result(heeding, SamplingParams())).token_ids
    assert none.token_ids != default.token_ids
    some = await result(heeding, Sampling(temperature=0.0, repetition_penalty=1.0))
    assert some.started.sampling == SamplingParams(0.0, 5)
    assert some.token_ids == (await result(neutral, SamplingParams(0.0))).token_ids


async def test_a_stream_goes_on_with_the_sampling_it_began_with(both: Both) -> None:
    heeding, neutral = both
    whole = await result(heeding, Sampling())
    generation = heeding.generate(
        GenerateRequest("by default", seed=11, max_tokens=24, ignore_eos=True)
    )
    async for _ in generation:
        break
    rest = generation._rest_of(generation._choices[0])
    resumed = await neutral.generate(rest).result()
    begun = generation._choices[0].token_ids
    assert begun + resumed.token_ids == whole.token_ids
    assert resumed.started.sampling == HOLDS
