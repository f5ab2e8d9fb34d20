"""Settings to be copied: the command and the servers take them as they stand."""

import shlex
from typing import Any

import pytest
from pydantic import BaseModel

from draft_server.settings import DraftSettings
from orchestrator.settings import OrchestratorSettings
from paceline.command_line import command_line
from paceline.settings import ServerSettings, parse
from paceline_tools.cli.app import Paceline
from paceline_tools.cli.as_typed import as_typed
from paceline_tools.cli.evaluate import SETTING_WIDTH, Evaluate
from paceline_tools.cli.evaluate import shown as shown_setting
from paceline_tools.cli.flags import taken_as_typed
from paceline_tools.cli.up import Up
from paceline_tools.evaluation.candidates import DraftCandidate, parse_candidate
from paceline_tools.evaluation.setting import Setting, target_alone, with_draft
from paceline_tools.local_plan import plan_drafts
from target_server.settings import TargetSettings

TARGET = "simulated:step_ms=30,token_ms=0.1"
CANDIDATE = DraftCandidate("a", "hybrid", "my models/small", "int8")
SETTING = with_draft(TARGET, CANDIDATE, "float32", 6)


def typed(line: str, kind: type[BaseModel]) -> Any:
    _, command, *arguments = shlex.split(line.replace("\\\n", ""))
    source: Any = command_line(Paceline, taken_as_typed)(args=[command, *arguments])
    return kind.model_validate(source()[command])


def test_up_takes_the_command() -> None:
    up = typed(SETTING.in_lines(70), Up)
    assert (up.target, up.draft) == ([TARGET], ["a=hybrid:my models/small:int8"])
    assert (up.draft_length, up.dtype) == (6, "float32")
    assert typed(str(target_alone(TARGET, "bfloat16")), Up).draft == ["none"]


FORMS = {
    "ngram": "--draft ngram",
    "lookup=ngram": "--draft lookup=ngram",
    "small=smollm2-135m": "--draft small=smollm2-135m:int4 --drafter model",
    "smollm2-135m:int8": "--draft smollm2-135m:int8 --drafter model",
    "smollm2-135m": "--draft smollm2-135m:int4 --drafter model",
    "hybrid:./my/small": "--draft hybrid:./my/small:int4",
    "both=hybrid:small:bf16": "--draft both=hybrid:small:bf16",
    "Big.One=small": "--draft small:int4 --drafter model",
    "n=simulated:step_ms=2,acceptance=0.8": (
        "--draft n=simulated:step_ms=2,acceptance=0.8:int4 --drafter model"
    ),
    "A.b=c=d": "--draft draft=c=d:int4 --drafter model",
}


@pytest.mark.parametrize(("given", "form"), FORMS.items())
def test_a_draft_is_told_as_up_takes_it(given: str, form: str) -> None:
    candidate = parse_candidate(given)
    setting = with_draft("t", candidate, "bfloat16", 3)
    assert str(setting) == f"paceline up --target t {form} --draft-length 3"
    up = typed(str(setting), Up)
    [planned] = plan_drafts(up.draft, up.drafter, up.draft_weights)
    assert (planned.drafter, planned.model, planned.weights) == (
        *(candidate.drafter, candidate.model, candidate.weights),
    )


def test_servers_take_the_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    for line in SETTING.variables:
        monkeypatch.setenv(*shlex.split(line)[0].split("=", 1))
    kinds: list[type[ServerSettings]] = [TargetSettings, DraftSettings, OrchestratorSettings]
    target, draft, orchestrator = (parse(kind, []).model_dump() for kind in kinds)
    assert (target["model"], target["dtype"]) == (TARGET, "float32")
    assert (draft["model"], draft["weights"], draft["drafter"]) == (
        *("my models/small", "int8", "hybrid"),
    )
    assert orchestrator["draft_length"] == 6
    for line in target_alone(TARGET, "bfloat16").variables:
        monkeypatch.setenv(*shlex.split(line)[0].split("=", 1))
    assert parse(OrchestratorSettings, []).draft == {}


def test_lookup_has_no_model() -> None:
    setting = with_draft("t", DraftCandidate("n", "ngram"), "bfloat16", 4)
    assert str(setting) == "paceline up --target t --draft n=ngram --draft-length 4"
    assert setting.variables == (
        "PACELINE_TARGET_MODEL=t",
        "PACELINE_DRAFT_DRAFTER=ngram",
        "PACELINE_ORCHESTRATOR_DRAFT_LENGTH=4",
    )


@pytest.mark.parametrize("setting", [SETTING, target_alone(TARGET, "bfloat16")])
def test_it_fits_a_terminal(setting: Setting) -> None:
    lines = shown_setting(setting).splitlines()
    assert max(map(len, lines)) <= SETTING_WIDTH + 4 == 80
    assert "    or, of servers apart:" in lines


def test_a_command_is_told_as_it_can_be_typed_again() -> None:
    line = "paceline evaluate --max-tokens 8 --json 'a b.json' --candidate x --candidate ngram"
    line += " --shared --no-alone"
    assert as_typed("evaluate", typed(line, Evaluate)) == line
