"""The paceline command: one class for each subcommand, and nothing else here."""

import contextlib
import os
import sys

from pydantic import ValidationError
from pydantic_settings import (
    BaseSettings,
    CliApp,
    CliSubCommand,
    SettingsConfigDict,
    SettingsError,
)
from rich.text import Text

from draft_server.settings import DraftSettings
from orchestrator.settings import OrchestratorSettings
from paceline import __version__
from paceline.command_line import command_line, describe
from paceline.environment import unknown_variables, variables
from paceline.errors import PacelineError
from paceline_tools.cli.bench import Bench
from paceline_tools.cli.chat import Talk
from paceline_tools.cli.demo import Demo
from paceline_tools.cli.doctor import Doctor
from paceline_tools.cli.evaluate import Evaluate
from paceline_tools.cli.examples import EXAMPLES, STATUS
from paceline_tools.cli.flags import taken_as_typed
from paceline_tools.cli.generate import Generate
from paceline_tools.cli.pull import Pull
from paceline_tools.cli.simulate import Simulate
from paceline_tools.cli.top import ShowStatus, Top
from paceline_tools.cli.up import Up
from paceline_tools.terminal import console, flush, is_bad_input, plain, prepare_streams
from target_server.settings import TargetSettings


class Paceline(BaseSettings):
    """Speculative decoding across processes: the target's exact tokens, only sooner."""

    model_config = SettingsConfigDict(
        env_prefix="PACELINE_",
        cli_prog_name="paceline",
        cli_kebab_case=True,
        cli_implicit_flags=True,
        cli_hide_none_type=True,
        cli_avoid_json=True,
        cli_enforce_required=True,
    )

    pull: CliSubCommand[Pull]
    up: CliSubCommand[Up]
    generate: CliSubCommand[Generate]
    chat: CliSubCommand[Talk]
    doctor: CliSubCommand[Doctor]
    status: CliSubCommand[ShowStatus]
    top: CliSubCommand[Top]
    bench: CliSubCommand[Bench]
    evaluate: CliSubCommand[Evaluate]
    simulate: CliSubCommand[Simulate]
    demo: CliSubCommand[Demo]

    def cli_cmd(self) -> None:
        """Run the subcommand. `up` warns itself, in the form of its log."""
        if self.up is None:
            _warn_of_variables()
        CliApp.run_subcommand(self)


def _warn_of_variables() -> None:
    """Of what the environment has with our prefix, and nothing reads."""
    kinds = (OrchestratorSettings, TargetSettings, DraftSettings)
    for unknown in unknown_variables(variables(*kinds)):
        told = Text.assemble(("paceline: ", "yellow"), plain(f"{unknown}"))
        console(stderr=True).print(told, soft_wrap=True)


def main(arguments: list[str] | None = None) -> None:
    """Run the command. Its exit status is as STATUS says."""
    try:
        prepare_streams()
        try:
            _run(sys.argv[1:] if arguments is None else arguments)
        finally:
            flush(sys.stdout)
    except (ValidationError, SettingsError) as error:
        _fail(describe(error, Paceline), 2)
    except PacelineError as error:
        _fail(str(error), 2 if is_bad_input(error) else 1)
    except BrokenPipeError:  # who read has seen enough
        raise SystemExit(1) from None
    except OSError as error:
        _fail(_reason(error), 1)
    except KeyboardInterrupt:
        raise SystemExit(130) from None


def _run(arguments: list[str]) -> None:
    source = command_line(Paceline, taken_as_typed, examples=EXAMPLES, epilog=STATUS)
    version = f"paceline {__version__}"
    source.root_parser.add_argument(
        "--version", action="version", version=version, help="show the version and exit"
    )
    CliApp.run(Paceline, cli_args=arguments or ["--help"], cli_settings_source=source)


def _reason(error: OSError) -> str:
    """What cannot be read or written, and why."""
    why = error.strerror or str(error)
    return why if error.filename is None else f"{os.fsdecode(error.filename)}: {why}"


def _fail(message: str, status: int) -> None:
    with contextlib.suppress(OSError):  # there is nobody left to tell
        for one in message.splitlines():
            # Of a server that ended, its last words are indented: they belong to what is above.
            prefix = ("  ", "") if one.startswith(" ") else ("paceline: ", "red")
            console(stderr=True).print(Text.assemble(prefix, plain(one.strip())), soft_wrap=True)
    raise SystemExit(status)
