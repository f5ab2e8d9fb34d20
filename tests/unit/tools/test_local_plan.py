"""What `up` starts, of its flags."""

from typing import Any

import pytest

from paceline.errors import InvalidArgument
from paceline_tools.local_plan import (
    PlannedDraft,
    PlannedTarget,
    labels,
    plan_drafts,
    plan_targets,
)

SLOW, QUICK = "simulated:step_ms=25,acceptance=0.9/0.1", "simulated:step_ms=2"


@pytest.mark.parametrize(
    ("specs", "name", "targets"),
    [
        ([SLOW], "", [PlannedTarget(SLOW)]),
        ([SLOW], "m", [PlannedTarget(SLOW, "m")]),
        ([SLOW, SLOW], "", [PlannedTarget(SLOW), PlannedTarget(SLOW)]),
        ([f"a={SLOW}", f"b={QUICK}"], "", [PlannedTarget(SLOW, "a"), PlannedTarget(QUICK, "b")]),
        (["./x=y", "org/name"], "", [PlannedTarget("./x=y"), PlannedTarget("org/name")]),
    ],
)
def test_targets_are_replicas_or_have_names(
    specs: list[str], name: str, targets: list[PlannedTarget]
) -> None:
    assert plan_targets(specs, name) == targets


@pytest.mark.parametrize(
    ("specs", "name", "said"),
    [
        ([SLOW, QUICK], "", "two models are called 'simulated'; give --target NAME=MODEL"),
        (["/a/m", "/b/m"], "", "two models are called 'm'; give --target NAME=MODEL"),
        (["/a/m", "/b/n"], "x", "two models are called 'x'; give --target NAME=MODEL"),
        (["x=/a/m", "x=/b/n"], "", "two models are called 'x'; give --target NAME=MODEL"),
    ],
)
def test_two_models_of_one_name_are_refused(specs: list[str], name: str, said: str) -> None:
    with pytest.raises(InvalidArgument) as raised:
        plan_targets(specs, name)
    model = specs[-1].removeprefix("x=")
    assert str(raised.value) == f"--target is {model!r}; it must be named: {said}"


@pytest.mark.parametrize(
    ("specs", "drafts"),
    [
        ([QUICK], [PlannedDraft("draft", "hybrid", QUICK, "int4")]),
        ([f"small={QUICK}"], [PlannedDraft("small", "hybrid", QUICK, "int4")]),
        (["m:int8"], [PlannedDraft("draft", "hybrid", "m", "int8")]),
        (["ngram"], [PlannedDraft("draft", "ngram", "", "int4")]),
        (
            ["small=m", "lookup=ngram", "other=hybrid:n:bf16"],
            [
                PlannedDraft("small", "hybrid", "m", "int4"),
                PlannedDraft("lookup", "ngram", "", "int4"),
                PlannedDraft("other", "hybrid", "n", "bf16"),
            ],
        ),
        (["m", "m"], [PlannedDraft("draft", "hybrid", "m", "int4")] * 2),
        (["none"], []),
    ],
)
def test_drafts_are_pools(specs: list[str], drafts: list[PlannedDraft]) -> None:
    assert plan_drafts(specs, "hybrid", "int4") == drafts


def test_lookup_alone_has_no_model() -> None:
    assert plan_drafts(["m"], "ngram", "int4") == [PlannedDraft("draft", "ngram", "", "int4")]
    assert plan_drafts(["none"], "ngram", "int4") == [PlannedDraft("draft", "ngram", "", "int4")]


@pytest.mark.parametrize(
    ("specs", "said"),
    [
        (
            ["m", "n"],
            "--draft is 'n'; it must be named: two drafts are called 'draft'; give --draft "
            "NAME=MODEL",
        ),
        (["none", "m"], "--draft is 'none'; it must be given alone"),
        (
            ["My=m"],
            "the name in --draft is 'My'; it must be a small letter, then at most 62 of a-z, "
            "0-9, - and _",
        ),
    ],
)
def test_drafts_that_cannot_be_told_apart_are_refused(specs: list[str], said: str) -> None:
    with pytest.raises(InvalidArgument) as raised:
        plan_drafts(specs, "hybrid", "int4")
    assert str(raised.value) == said


@pytest.mark.parametrize(
    ("role", "names", "found"),
    [
        ("target", [""], ["target"]),
        ("target", ["", ""], ["target 1", "target 2"]),
        ("target", ["a", "b"], ["target a", "target b"]),
        ("target", ["a"], ["target a"]),
        ("draft", ["draft"], ["draft"]),
        ("draft", ["small"], ["draft small"]),
        ("draft", ["small", "small"], ["draft small-1", "draft small-2"]),
        ("draft", [], []),
    ],
)
def test_servers_are_told_apart_on_the_screen(
    role: Any, names: list[str], found: list[str]
) -> None:
    assert list(labels(role, names)) == found
