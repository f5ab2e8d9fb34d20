"""What a model's generation_config.json says of sampling; what no request may have is left out."""

import json
from pathlib import Path
from typing import Any

import pytest
import structlog
import torch

from paceline.engine.torch.generation_config import default_sampling
from paceline.engine.torch.loading import load_model
from paceline.protocol.sampling import Sampling
from tests.tiny_models import EOS, tiny_model


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ({}, Sampling()),
        ({"do_sample": True}, Sampling()),
        ({"do_sample": False}, Sampling(temperature=0.0)),
        ({"do_sample": False, "temperature": 0.7}, Sampling(temperature=0.0)),
        ({"temperature": None, "top_k": None}, Sampling()),
        ({"temperature": 0.6, "top_p": 0.9, "do_sample": True}, Sampling(0.6, top_p=0.9)),
        ({"temperature": 1, "top_k": 0, "min_p": 0.05}, Sampling(1, 0, min_p=0.05)),
        ({"repetition_penalty": 1.05, "num_beams": 4}, Sampling(repetition_penalty=1.05)),
    ],
)
def test_what_the_file_states_is_taken(content: dict[str, Any], expected: Sampling) -> None:
    with structlog.testing.capture_logs() as logs:
        assert default_sampling(content) == expected
    assert not logs


@pytest.mark.parametrize(
    ("name", "value", "reason"),
    [
        ("temperature", -1, "temperature is -1; it must be from 0 to 100"),
        ("temperature", float("nan"), "temperature is nan; it must be from 0 to 100"),
        ("temperature", "0.7", "temperature is '0.7'; it must be a number"),
        ("temperature", True, "temperature is True; it must be a number"),
        ("top_k", -1, "top_k is -1; it must be from 0 to 4294967295"),
        ("top_k", 2**32, "top_k is 4294967296; it must be from 0 to 4294967295"),
        ("top_k", 20.0, "top_k is 20.0; it must be a whole number"),
        ("top_p", 0.0, "top_p is 0.0; it must be over 0 and at most 1"),
        ("min_p", [0.1], "min_p is [0.1]; it must be a number"),
        ("repetition_penalty", 0, "repetition_penalty is 0; it must be over 0 and finite"),
    ],
)
def test_what_no_request_may_have_is_left_out_and_logged(
    name: str, value: Any, reason: str
) -> None:
    with structlog.testing.capture_logs() as logs:
        assert default_sampling({name: value, "min_p": 0.5} | {name: value}) == (
            Sampling() if name == "min_p" else Sampling(min_p=0.5)
        )
    [log] = logs
    assert log["event"] == "generation_config.json's value is left out"
    assert log["reason"] == reason


@pytest.mark.parametrize(
    "content",
    [
        {"temperature": -1.0, "top_p": 7.0, "top_k": "many", "min_p": 0.1},
        {"min_p": 0.1, "max_new_tokens": -4, "num_beams": 0, "cache_implementation": "none such"},
    ],
)
def test_nothing_in_it_keeps_a_model_from_being_served(
    content: dict[str, Any], tmp_path: Path
) -> None:
    folder = tiny_model(tmp_path)
    (folder / "generation_config.json").write_text(json.dumps({"eos_token_id": EOS, **content}))
    loaded = load_model(folder, torch.float64)
    assert loaded.default_sampling == Sampling(min_p=0.1)
    assert loaded.eos_token_ids == (EOS,)
