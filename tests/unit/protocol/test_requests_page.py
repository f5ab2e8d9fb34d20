"""docs/requests.md has every field of a request, and the limits that are checked."""

import dataclasses
import re
from pathlib import Path

import pytest

from orchestrator.settings import OrchestratorSettings
from paceline.protocol import constraint, limits, sampling
from paceline.protocol.generation import GenerateRequest
from paceline.protocol.sampling import Sampling

PAGE = (Path(__file__).parents[3] / "docs" / "requests.md").read_text()
ROWS = {
    name: line
    for line in PAGE.splitlines()
    if line.startswith("| `")
    for name in re.findall(r"`([\w.]+)`", line.split("|")[1])
}


def test_every_field_has_a_row() -> None:
    request = {field.name for field in dataclasses.fields(GenerateRequest)} - {"sampling"}
    rule = {field.name for field in dataclasses.fields(Sampling)} - {"min_tokens"}
    assert set(ROWS) - {"sampling", "sampling.min_tokens"} == request | rule


@pytest.mark.parametrize(
    ("field", "numbers"),
    [
        ("cache_salt", (limits.MAX_SALT_CHARACTERS,)),
        ("stop", (limits.MAX_STOP_STRINGS, limits.MAX_STOP_CHARACTERS)),
        ("bad_words", (limits.MAX_BAD_WORDS, limits.MAX_BAD_WORD_CHARACTERS)),
        ("bad_words_token_ids", (sampling.MAX_BAD_WORDS, sampling.MAX_BAD_WORD_TOKENS)),
        ("constraint", (constraint.MAX_CONSTRAINT_CHARACTERS, constraint.MAX_OPTIONS)),
        ("n", (limits.MAX_CHOICES,)),
        ("logprobs", (limits.MAX_LOGPROBS,)),
        ("prompt_logprobs", (limits.MAX_LOGPROBS,)),
        ("priority", (limits.MAX_PRIORITY,)),
        ("temperature", (sampling.MAX_TEMPERATURE,)),
        ("presence_penalty", (sampling.MAX_PENALTY,)),
        ("frequency_penalty", (sampling.MAX_PENALTY,)),
        ("logit_bias", (sampling.MAX_BIAS,)),
        ("max_tokens", (OrchestratorSettings().default_max_tokens,)),
    ],
)
def test_limits_are_those_that_hold(field: str, numbers: tuple[float, ...]) -> None:
    said = {float(number) for number in re.findall(r"\d+", ROWS[field])}
    assert set(map(float, numbers)) <= said
