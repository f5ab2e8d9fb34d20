"""The page of troubleshooting names settings and files that exist."""

import re
from pathlib import Path

import pytest

from draft_server.settings import DraftSettings
from orchestrator.settings import OrchestratorSettings
from paceline.environment import OTHERS, variables
from paceline_tools.cli.up import Up
from target_server.settings import TargetSettings

PAGE = Path(__file__).parents[2] / "docs" / "troubleshooting.md"
SERVERS = (OrchestratorSettings, TargetSettings, DraftSettings)
MISSPELT = {"PACELINE_TARGET_TREADS"}


def test_its_variables_are_read() -> None:
    named = set(re.findall(r"PACELINE_\w+", PAGE.read_text()))
    assert named <= {*variables(*SERVERS), *OTHERS} | MISSPELT


@pytest.mark.parametrize("flag", sorted(set(re.findall(r"--([a-z][a-z-]+)", PAGE.read_text()))))
def test_its_flags_are_taken(flag: str) -> None:
    names = {name for kind in (*SERVERS, Up) for name in kind.model_fields}
    assert flag.replace("-", "_") in names | {"help"}
