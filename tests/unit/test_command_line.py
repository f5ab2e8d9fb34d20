"""Command lines: what --help shows, and what is said of one that cannot be right."""

import json
import shlex
from typing import Any

import pytest
from pydantic import BaseModel

from draft_server.settings import DraftSettings
from orchestrator.settings import OrchestratorSettings
from paceline import __version__
from paceline.command_line import UNSET, WIDTH, command_line, model_of
from paceline.settings import STATUS as SERVER_STATUS
from paceline.settings import ServerSettings, parse
from paceline_tools.cli.app import Paceline, main
from paceline_tools.cli.examples import EXAMPLES, STATUS
from paceline_tools.cli.flags import taken_as_typed
from target_server.settings import TargetSettings

SERVERS = (OrchestratorSettings, TargetSettings, DraftSettings)
COMMANDS = {name: model_of(field) for name, field in Paceline.model_fields.items()}
ALL: dict[str, type[BaseModel]] = {
    **COMMANDS,
    **{str(one.model_config["cli_prog_name"]): one for one in SERVERS},
}


def said(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as ended:
        main(list(arguments))
    found = capsys.readouterr()
    return int(ended.value.code or 0), found.out, found.err


@pytest.mark.parametrize("name", ["", *ALL])
def test_help_has_examples_and_is_narrow(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    kind = ALL.get(name)
    if kind is not None and issubclass(kind, ServerSettings):
        with pytest.raises(SystemExit) as ended:
            parse(kind, ["--help"])
        assert ended.value.code == 0
        text = capsys.readouterr().out
    else:
        status, text, _ = said(capsys, *filter(None, [name]), "--help")
        assert status == 0
    assert max(map(len, text.splitlines())) <= WIDTH
    assert "\nexamples:\n  " in text
    for word in ("None", "lambda", "factory", "default: )", "list[", "dict["):
        assert word not in text


@pytest.mark.parametrize("kind", ALL.values())
def test_a_default_is_a_value_or_said_in_words(kind: type[BaseModel]) -> None:
    for name, field in kind.model_fields.items():
        if not field.is_required() and field.get_default(call_default_factory=True) in (
            None,
            "",
            [],
        ):
            assert UNSET in (field.description or ""), name


def test_each_command_is_explained_in_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    _, text, _ = said(capsys, "--help")
    lines = text.partition("explains it\n")[2].partition("\n\n")[0].splitlines()
    assert [line.split()[0] for line in lines] == list(COMMANDS)
    assert all(len(line.split()) > 2 for line in lines)
    assert STATUS.strip() in text
    assert "--version" in text


@pytest.mark.parametrize("kind", SERVERS)
def test_servers_tell_their_exit_status(
    kind: type[ServerSettings], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        parse(kind, ["--help"])
    assert SERVER_STATUS in capsys.readouterr().out


@pytest.mark.parametrize("line", [line for lines in EXAMPLES.values() for line in lines])
def test_examples_are_taken(line: str) -> None:
    arguments = shlex.split(line.partition(" < ")[0])[1:]
    source: Any = command_line(Paceline, taken_as_typed)(args=arguments)
    kind = COMMANDS[arguments[0]]
    kind.model_validate(source().get(arguments[0]) or {})


@pytest.mark.parametrize("kind", SERVERS)
def test_examples_of_servers_are_taken(
    kind: type[ServerSettings], monkeypatch: pytest.MonkeyPatch
) -> None:
    for line in kind.examples:
        with monkeypatch.context() as patch:
            before, _, flags = line.partition(f"{kind.model_config['cli_prog_name']}")
            if before:
                patch.setenv(*before.strip().split("=", 1))
            parse(kind, shlex.split(flags))


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert said(capsys, "--version") == (0, f"paceline {__version__}\n", "")


WRONG = {
    "generate --tempreature 1": "unknown flag --tempreature; did you mean --temperature?",
    "generate --tempreature=1": "unknown flag --tempreature; did you mean --temperature?",
    "generate --qqq": "unknown flag --qqq; paceline generate --help lists them",
    "--json status": "unknown flag --json; paceline --help lists them",
    "genrate hi": "unknown command genrate; did you mean generate?",
    "xyzzy": "unknown command xyzzy; paceline --help lists them",
    "doctor here": "paceline doctor takes no argument 'here'",
    "top --interval": "--interval needs a value",
    "generate --raw=3": "--raw takes no value, and has '3'",
    "generate ''": "PROMPT is ''; it must be a text that is not empty",
    "generate --top-p 0 hi": "--top-p is '0'; it must be more than 0 and at most 1",
    "generate --top-p nan hi": "--top-p is 'nan'; it must be a number more than 0 and at most 1",
    "top --interval 0": "--interval is '0'; it must be from 0.1 to 60",
    "status --address here:there": "--address is 'here:there'; it must be host or host:port",
    "bench --prompts /nowhere": "--prompts is '/nowhere'; it must be a file that can be read",
    "bench --delays nan": "--delays is 'nan'; it must be a number",
    "simulate --acceptance [": "--acceptance is '['; it must be a number",
    "up --drafter modle": "--drafter is 'modle'; it must be one of model, ngram, hybrid; did you "
    "mean model?",
    "generate what is": "paceline generate takes one PROMPT, and 'is' is a second one; quote words "
    "that belong together, as in 'what is'",
    "bench --delays -1": "--delays is '-1'; it must be at least 0",
}


@pytest.mark.parametrize("line", WRONG)
def test_what_cannot_be_right_is_one_line(line: str, capsys: pytest.CaptureFixture[str]) -> None:
    status, out, err = said(capsys, *shlex.split(line))
    assert (status, out) == (2, "")
    [told] = err.splitlines()
    assert told.startswith(f"paceline: {WRONG[line]}")


SERVERS_WRONG = [
    (OrchestratorSettings, ["--tarrget=a:1"], "unknown flag --tarrget; did you mean --target?"),
    (TargetSettings, ["--model"], "--model needs a value"),
    (TargetSettings, ["x"], "python -m target_server takes no argument 'x'"),
    (DraftSettings, [], "--model is missing; the hybrid drafter needs one"),
]


@pytest.mark.parametrize(("kind", "arguments", "message"), SERVERS_WRONG)
def test_what_cannot_be_right_of_a_server_is_one_line(
    kind: type[ServerSettings],
    arguments: list[str],
    message: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(SystemExit) as ended:
        parse(kind, arguments)
    assert ended.value.code == 2
    assert json.loads(capsys.readouterr().err)["reason"] == message
