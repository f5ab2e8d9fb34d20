"""docs/settings.md: every flag of the three servers and of the command, as --help explains it.

python -m tests.settings_reference writes it anew.
"""

import re
from argparse import SUPPRESS, Action, ArgumentParser, _SubParsersAction
from collections.abc import Iterator

from draft_server.settings import DraftSettings
from orchestrator.settings import OrchestratorSettings
from paceline.command_line import command_line
from paceline.settings import ServerSettings
from paceline_tools.cli.app import Paceline
from target_server.settings import TargetSettings
from tests.reference_pages import DOCS, code, prose, replaced, table

PAGE = DOCS / "settings.md"
SERVERS: dict[str, type[ServerSettings]] = {
    "Orchestrator": OrchestratorSettings,
    "Target server": TargetSettings,
    "Draft server": DraftSettings,
}
_HELP = re.compile(
    r"(?P<what>.*?)"
    r"(?: ?(?:\(default: (?P<default>.*)\)|(?P<required>\(required\))))?"
    r"(?: ?\[env: (?P<variable>\w+)\])?",
    re.DOTALL,
)


def flags(parser: ArgumentParser) -> Iterator[Action]:
    """What a command line takes, as --help has it."""
    for one in parser._actions:
        if one.help != SUPPRESS and one.dest not in {"help", "version"} and not _commands(one):
            yield one


def _commands(action: Action) -> dict[str, ArgumentParser]:
    return action.choices if isinstance(action, _SubParsersAction) else {}


def server_table(name: str, kind: type[ServerSettings]) -> str:
    """All settings of a server."""
    rows = (_row(one) for one in flags(command_line(kind).root_parser))
    heading = ["flag", "variable", "default", "what"]
    title = f"## {name}\n\n`{kind.model_config.get('cli_prog_name')}`"
    return table(title, heading, rows)


def command_tables() -> Iterator[str]:
    """The flags of each subcommand of paceline."""
    for action in command_line(Paceline).root_parser._actions:
        for name, parser in _commands(action).items():
            rows = ([flag, default, what] for flag, _, default, what in map(_row, flags(parser)))
            yield table(f"### paceline {name}", ["flag", "default", "what"], rows)


def _row(action: Action) -> list[str]:
    found = _HELP.fullmatch((action.help or "").replace("%%", "%"))
    assert found, action.help
    default = "required" if found["required"] else code(found["default"] or "")
    return [_shown(action), code(found["variable"] or ""), default, prose(found["what"])]


def _shown(action: Action) -> str:
    """A flag and what it takes."""
    value = action.metavar if isinstance(action.metavar, str) else ""
    if not action.option_strings:
        return code(value or action.dest)
    flag = action.option_strings[0]
    if f"--no-{flag.removeprefix('--')}" in action.option_strings:
        flag = f"--[no-]{flag.removeprefix('--')}"
    return code(f"{flag} {value}".strip())


def page() -> str:
    """The page as it is to be."""
    servers = [server_table(name, kind) for name, kind in SERVERS.items()]
    tables = "\n".join([*servers, "## The command\n", *command_tables()])
    return replaced(PAGE, "tests.settings_reference", tables)


if __name__ == "__main__":
    PAGE.write_text(page())
