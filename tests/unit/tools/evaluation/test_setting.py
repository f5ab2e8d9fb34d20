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
from paceline_tools.evaluation.candidates import DraftCandidate
from paceline_tools.evaluation.setting import Setting, target_alone, with_draft
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
    assert (up.target, up.draft, up.draft_weights) == ([TARGET], ["my models/small"], "int8")
    assert (up.drafter, up.draft_length, up.dtype) == ("hybrid", 6, "float32")
    assert typed(str(target_alone(TARGET, "bfloat16")), Up).draft == ["none"]


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
    assert str(setting) == "paceline up --target t --drafter ngram --draft-length 4"
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
