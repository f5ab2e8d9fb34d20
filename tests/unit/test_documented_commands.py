"""Command lines of the docs are taken by the parsers of the commands."""

import re
import shlex
import tomllib
from typing import Any

import pytest

from draft_server.settings import DraftSettings
from orchestrator.settings import OrchestratorSettings
from paceline.command_line import BadUsage, command_line, model_of
from paceline.settings import ServerSettings, parse
from paceline_tools.cli.app import Paceline
from paceline_tools.cli.flags import taken_as_typed
from target_server.settings import TargetSettings
from tests.documented_commands import PAGES, ROOT, Documented, documented

COMMANDS = {name: model_of(field) for name, field in Paceline.model_fields.items()}
SERVERS: dict[str, type[ServerSettings]] = {
    str(one.model_config["cli_prog_name"]): one
    for one in (OrchestratorSettings, TargetSettings, DraftSettings)
}
DOCUMENTED = documented()
OF_COMMAND = [one for one in DOCUMENTED if one.program == "paceline"]
OF_SERVERS = [one for one in DOCUMENTED if one.program in SERVERS and not one.mentioned]


def test_pages_have_commands_and_all_of_them_are_found() -> None:
    pages = {one.page for one in DOCUMENTED}
    assert {"README.md", "docs/quickstart.md", "docs/operating.md", "docs/models.md"} <= pages
    assert len(OF_COMMAND) > 60
    assert len(OF_SERVERS) > 10
    for line in (
        "README.md: paceline up --page",
        "docs/quickstart.md: paceline up --target ./my-model --draft "
        "small=qwen2.5-coder-0.5b:int4 --drafter model --draft-length 12",
        "docs/watching.md: paceline status --address host:7070",
    ):
        assert line in map(str, DOCUMENTED)


@pytest.mark.parametrize("one", OF_COMMAND, ids=str)
def test_the_command_takes_it(one: Documented) -> None:
    name, *arguments = shlex.split(one.arguments) or ["--help"]
    if one.mentioned and arguments[-1:] and arguments[-1].startswith("--"):
        arguments = _whole(name, arguments)
    assert not [value for value in arguments if value.startswith('["')]  # a list is with commas
    if name in {"--help", "--version"}:
        return
    taken: Any = command_line(Paceline, taken_as_typed)(args=[name, *arguments])
    COMMANDS[name].model_validate(taken()[name] or {})


def _whole(name: str, arguments: list[str]) -> list[str]:
    """Without the last flag where that needs a value; it is one of the command."""
    try:
        command_line(Paceline, taken_as_typed)(args=[name, *arguments])
    except BadUsage as told:
        if str(told) == f"{arguments[-1]} needs a value":
            return arguments[:-1]
        raise
    return arguments


@pytest.mark.parametrize("one", OF_SERVERS, ids=str)
def test_the_server_takes_it(one: Documented, monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in shlex.split(one.variables):
        monkeypatch.setenv(*variable.split("=", 1))
    parse(SERVERS[one.program], shlex.split(one.arguments))


def test_paceline_is_installed_from_a_checkout() -> None:
    """It is on no index: a name of its own there would be somebody else's."""
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"][
        "optional-dependencies"
    ]
    told = [re.findall(r"pip install ([^`\n]*)", page.read_text()) for page in PAGES]
    installs = [one for of_page in told for one in of_page]
    named = {
        name
        for one in installs
        for found in re.findall(r"\.\[([\w,]+)\]", one)
        for name in found.split(",")
    }
    assert {"engine", "gateway", "traces", "vllm"} <= named <= set(extras)
    assert not [one for one in installs if re.search(r"(?<!/)paceline\[|--editable", one)]
