"""Candidates as people name them."""

import pytest

from paceline.errors import InvalidArgument
from paceline_tools.evaluation.candidates import Candidate, parse_candidates


@pytest.mark.parametrize(
    ("flag", "candidate"),
    [
        ("ngram", Candidate("ngram", "ngram")),
        ("lookup=ngram", Candidate("lookup", "ngram")),
        ("small", Candidate("small", "model", "small", "int4")),
        ("a=small:bf16", Candidate("a", "model", "small", "bf16")),
        ("a=hybrid:small:int8", Candidate("a", "hybrid", "small", "int8")),
        ("hybrid:small", Candidate("hybrid:small", "hybrid", "small", "int4")),
        ("/models/x/y.gguf", Candidate("y.gguf", "model", "/models/x/y.gguf", "int4")),
        ("Qwen/Qwen3-0.6B:bf16", Candidate("Qwen3-0.6B:bf16", "model", "Qwen/Qwen3-0.6B", "bf16")),
        ("simulated:step_ms=2", Candidate("simulated:step_ms=2", "model", "simulated:step_ms=2")),
    ],
)
def test_a_spec_has_a_name_a_drafter_a_model_and_weights(flag: str, candidate: Candidate) -> None:
    assert parse_candidates([flag]) == [candidate]


def test_a_simulated_models_name_is_put_together_again_behind_its_commas() -> None:
    flags = "a=hybrid:simulated:step_ms=2,acceptance=0.9/0.1,seed=3:int8,b=ngram,c=small"
    a, b, c = parse_candidates(flags.split(","))
    assert a == Candidate("a", "hybrid", "simulated:step_ms=2,acceptance=0.9/0.1,seed=3", "int8")
    assert (b.name, c.name) == ("b", "c")


@pytest.mark.parametrize("flags", [["a="], ["hybrid:"], ["int4"], ["a=ngram", "a=small"]])
def test_what_is_no_candidate_is_named(flags: list[str]) -> None:
    with pytest.raises(InvalidArgument, match="--candidate"):
        parse_candidates(flags)
