"""Parameters at their edges, through real servers: an output, the same however it came about."""

import math
from pathlib import Path
from typing import Any

import pytest

from paceline.client import Client
from paceline.protocol.generation import GenerateRequest, Speculation
from paceline.protocol.sampling import SamplingParams
from tests import servers
from tests.tiny_models import VOCABULARY, tiny_model

SMALLEST = 5e-324
EXTREMES: tuple[dict[str, Any], ...] = (
    {"top_p": SMALLEST},
    {"top_p": SMALLEST, "logit_bias": dict.fromkeys(range(VOCABULARY), -100.0)},
    {"top_p": math.nextafter(1, 0), "min_p": SMALLEST},
    {"min_p": 1.0, "top_p": 0.5},
    {"temperature": SMALLEST, "top_p": 0.9},
    {"temperature": 1e-300, "top_p": 0.9, "min_p": 0.5},
    {"temperature": 100.0, "top_k": 2**32 - 1},
    {"repetition_penalty": 1e39, "top_p": 0.9},
    {"repetition_penalty": 1e300, "top_p": 0.9, "temperature": SMALLEST},
    {"repetition_penalty": 1e-46, "top_p": 0.9},
    {"repetition_penalty": SMALLEST, "top_p": 0.9, "presence_penalty": -2.0},
    {"repetition_penalty": 1.7e308, "temperature": 0.0, "frequency_penalty": 2.0},
    {"min_tokens": 2**32 - 1, "top_k": 1},
    {"allowed_token_ids": (0, 0), "top_p": SMALLEST},
    {"allowed_token_ids": (5, 6), "bad_words_token_ids": ((5,), (6,)), "min_tokens": 9},
    {"bad_words_token_ids": tuple((token,) for token in range(VOCABULARY)), "temperature": 0.0},
    {"bad_words_token_ids": ((1,) * 256,) * 1024, "repetition_penalty": 1e39},
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_model(tmp_path_factory.mktemp("model"))


async def output(client: Client, params: dict[str, Any], how: Speculation) -> tuple[int, ...]:
    request = GenerateRequest(
        (1, 2, 3, 1, 2),
        sampling=SamplingParams(**params),
        seed=2**64 - 1,
        max_tokens=8,
        logprobs=20,
        speculation=how,
    )
    return (await client.generate(request).result()).token_ids


@pytest.mark.parametrize("dtype", ["float32", "float64"])
async def test_every_parameter_that_is_let_through_gives_an_output(
    folder: Path, dtype: str
) -> None:
    async with (
        servers.target(folder, dtype=dtype) as target,
        servers.draft(folder, dtype=dtype) as draft,
        servers.orchestrator([target.address], [draft.address]) as client,
    ):
        for params in EXTREMES:
            alone = await output(client, params, Speculation.OFF)
            assert await output(client, params, Speculation.FORCE) == alone, params
            assert len(alone) == 8 or "min_tokens" not in params
        await servers.nothing_is_left(target, draft)
