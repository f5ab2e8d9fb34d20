"""Candidates as people name them."""

import pytest

from paceline.errors import InvalidArgument
from paceline_tools.evaluation.candidates import DraftCandidate, parse_candidates


@pytest.mark.parametrize(
    ("flag", "candidate"),
    [
        ("ngram", DraftCandidate("ngram", "ngram")),
        ("lookup=ngram", DraftCandidate("lookup", "ngram")),
        ("small", DraftCandidate("small", "model", "small", "int4")),
        ("a=small:bf16", DraftCandidate("a", "model", "small", "bf16")),
        ("a=hybrid:small:int8", DraftCandidate("a", "hybrid", "small", "int8")),
        ("hybrid:small", DraftCandidate("hybrid:small", "hybrid", "small", "int4")),
        ("/models/x/y.gguf", DraftCandidate("y.gguf", "model", "/models/x/y.gguf", "int4")),
        (
            "Qwen/Qwen3-0.6B:bf16",
            DraftCandidate("Qwen3-0.6B:bf16", "model", "Qwen/Qwen3-0.6B", "bf16"),
        ),
        (
            "simulated:step_ms=2",
            DraftCandidate("simulated:step_ms=2", "model", "simulated:step_ms=2"),
        ),
    ],
)
def test_a_spec_has_a_name_a_drafter_a_model_and_weights(
    flag: str, candidate: DraftCandidate
) -> None:
    assert parse_candidates([flag]) == [candidate]


def test_a_simulated_models_name_is_put_together_again_behind_its_commas() -> None:
    flags = "a=hybrid:simulated:step_ms=2,acceptance=0.9/0.1,seed=3:int8,b=ngram,c=small"
    a, b, c = parse_candidates(flags.split(","))
    assert a == DraftCandidate(
        "a", "hybrid", "simulated:step_ms=2,acceptance=0.9/0.1,seed=3", "int8"
    )
    assert (b.name, c.name) == ("b", "c")


@pytest.mark.parametrize("flags", [["a="], ["hybrid:"], ["int4"], ["a=ngram", "a=small"]])
def test_what_is_no_candidate_is_named(flags: list[str]) -> None:
    with pytest.raises(InvalidArgument, match="--candidate"):
        parse_candidates(flags)


@pytest.mark.parametrize("spec", ["small:int5", "hybrid:small:int5", "simulated:int5"])
def test_misspelt_weights_are_named_with_those_there_are(spec: str) -> None:
    with pytest.raises(InvalidArgument) as raised:
        parse_candidates([spec])
    assert str(raised.value) == (
        f"the weights in --candidate {spec} is 'int5'; it must be one of bf16, int8, int4"
    )
