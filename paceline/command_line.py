"""Command lines as pydantic-settings reads them, with help and errors that people can use."""

import os
import re
import sys
import textwrap
from argparse import Action, ArgumentParser, Namespace, RawDescriptionHelpFormatter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, NoReturn, get_args, get_origin

from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings, CliSettingsSource

from paceline.errors import InvalidArgument, shown
from paceline.limits import told
from paceline.nearest import nearest

WIDTH = 80
"""No line of help is longer."""
UNSET = "Unless given"
"""With it a description says what holds without the flag; then no default is shown."""
_METAVARS = {int: "N", float: "X", Path: "PATH"}
_ENVIRONMENT = re.compile(r"\[env: .*\]$", re.DOTALL)
_PROBLEMS = (
    (re.compile(r"argument (\S+): expected (?:at least )?one argument"), "{} needs a value"),
    (
        re.compile(r"argument (\S+): ignored explicit argument (.*)"),
        "{} takes no value, and has {}",
    ),
    (re.compile(r"the following arguments are required: (.*)"), "{} is missing"),
)
"""What argparse says, and what we do."""
_FIRST_CLAUSE = re.compile(r"[.:;](?:\s|$)")
_CHOICE = re.compile(r"invalid choice: '(.*?)' \(choose from (.*)\)")


class BadUsage(InvalidArgument):
    """A command line that cannot be right."""


class _Help(RawDescriptionHelpFormatter):
    def __init__(self, prog: str, **more: Any) -> None:
        super().__init__(prog, **{"max_help_position": 26, "width": WIDTH, **more})


class Parser(ArgumentParser):
    """argparse's. Its errors are one line, and raised; it knows what was nearly right."""

    def __init__(self, **more: Any) -> None:
        """Without abbreviations: a flag that comes later must not change what a script means."""
        usage = more.pop("usage", None) or "%(prog)s [flags]"
        super().__init__(**{**more, "formatter_class": _Help, "allow_abbrev": False}, usage=usage)

    def error(self, message: str) -> NoReturn:
        """Raise BadUsage."""
        if wrong := _CHOICE.search(message):
            raise _unknown("command", wrong[1], re.findall(r"[\w-]+", wrong[2]), self.prog)
        for said, ours in _PROBLEMS:
            if found := said.search(message):
                raise BadUsage(ours.format(*(part.partition("/")[0] for part in found.groups())))
        raise BadUsage(message)

    def _print_message(self, message: str, file: Any = None) -> None:
        """As argparse's, which does not say when nothing could be written."""
        (file or sys.stderr).write(message)

    def parse_known_args(  # type: ignore[override]
        self, args: Sequence[str] | None = None, namespace: Namespace | None = None
    ) -> tuple[Namespace, list[str]]:
        """Nothing is let pass that is not known."""
        found, unknown = super().parse_known_args(args, namespace)
        if unknown:
            flag = unknown[0].partition("=")[0]
            if not flag.startswith("-"):
                raise BadUsage(self._too_much(unknown[0], found))
            raise _unknown("flag", flag, self._option_string_actions, self.prog)
        return found, unknown

    def _too_much(self, word: str, found: Namespace) -> str:
        """What is said of an argument behind those that are taken."""
        taken = [one for one in self._actions if not one.option_strings and one.nargs == "?"]
        if not taken:
            return f"{self.prog} takes no argument {shown(word)}"
        words = f"{getattr(found, taken[-1].dest)} {word}"
        what = f"{self.prog} takes one {taken[-1].metavar}, and {shown(word)} is a second one"
        return f"{what}; quote words that belong together, as in {shown(words)}"


def _unknown(what: str, name: str, known: Iterable[str], program: str) -> BadUsage:
    near = nearest(name, known)
    advice = f"did you mean {near}?" if near else f"{program} --help lists them"
    return BadUsage(f"unknown {what} {name}; {advice}")


def command_line(
    settings: type[BaseSettings],
    parse: Callable[..., Namespace] = ArgumentParser.parse_args,
    *,
    examples: Mapping[str, Sequence[str]] | None = None,
    epilog: str = "",
) -> CliSettingsSource[Any]:
    """The command line of `settings`. examples: by command, "" without one; the rest in help."""
    examples = examples or {}
    prog = settings.model_config.get("cli_prog_name")
    commands: list[Any] = []
    parser = Parser(
        prog=prog,
        description=_described(settings),
        epilog="\n\n".join(filter(None, (_examples(examples.get("", ())), epilog))),
    )

    def add_parser(subparsers: Any, name: str, **more: Any) -> ArgumentParser:
        command = model_of(settings.model_fields[name])
        more |= {
            "help": _FIRST_CLAUSE.split(command.__doc__ or "")[0].strip(),
            "description": _described(command),
            "epilog": _examples(examples.get(name, ())),
        }
        added: ArgumentParser = subparsers.add_parser(name, **more)
        return added

    def add_argument(parser: ArgumentParser, *names: str, **more: Any) -> Action:
        dest = more.get("dest", names[0])
        if found := field_at(settings, dest.split(".")):
            more |= _help(found, more)
            if not names[0].startswith("-"):
                several = " ..." if more.get("nargs") == "*" else ""
                parser.usage = f"{parser.usage} [{more['metavar']}{several}]"
        return parser.add_argument(*names, **more)

    def add_subparsers(parser: ArgumentParser, **more: Any) -> Any:
        parser.usage = f"{prog} COMMAND [flags]"
        commands.append(
            parser.add_subparsers(
                **{**more, "title": "commands", "help": f"{prog} COMMAND --help explains it"},
                prog=prog,
            )
        )
        return commands[0]

    source: CliSettingsSource[Any] = CliSettingsSource(
        settings,
        root_parser=parser,
        parse_args_method=parse,
        add_argument_method=add_argument,
        add_parser_method=add_parser,
        add_subparsers_method=add_subparsers,
    )
    for one in commands:
        one.metavar = "COMMAND"  # instead of all their names, which stand below it
    return source


def _described(model: type[BaseModel]) -> str:
    """Its docstring in lines of WIDTH."""
    paragraphs = textwrap.dedent(f"    {model.__doc__ or ''}").strip().split("\n\n")
    return "\n\n".join(textwrap.fill(" ".join(one.split()), WIDTH) for one in paragraphs)


def _examples(lines: Sequence[str]) -> str:
    return "\n".join(("examples:", *(f"  {line}" for line in lines))) if lines else ""


def model_of(field: FieldInfo) -> type[BaseModel]:
    """The model that a field's value is, without None; BaseModel where it is none."""
    kinds = (field.annotation, *get_args(field.annotation))
    models = [one for one in kinds if isinstance(one, type) and issubclass(one, BaseModel)]
    return models[0] if models else BaseModel


def field_at(model: type[BaseModel], path: Iterable[str | int]) -> FieldInfo | None:
    """The field that a path of names leads to, or into; None where it leads to a model."""
    field = None
    for name in path:
        fields = {one.alias or name: one for name, one in model.model_fields.items()}
        if (found := fields.get(str(name))) is None:
            break
        field, model = found, model_of(found)
    return field if model is BaseModel else None


def is_positional(field: FieldInfo) -> bool:
    """Whether it is an argument and no flag."""
    return any("Positional" in str(one) for one in field.metadata)


def _help(field: FieldInfo, more: Mapping[str, Any]) -> dict[str, Any]:
    """How a flag is explained: its description, its default as a value, its variable."""
    environment = _ENVIRONMENT.search(more.get("help", ""))
    parts = (field.description, _default(field), environment[0] if environment else "")
    found = {"help": " ".join(filter(None, parts)).replace("%", "%%")}
    if "metavar" in more and not is_positional(field):
        found["metavar"] = _metavar(field.annotation)
    return found


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "(required)"
    value = field.get_default(call_default_factory=True, validated_data={})
    if UNSET in (field.description or "") or value in (None, "", [], {}):
        return ""
    return f"(default: {_as_typed(value)})"


def _as_typed(value: object) -> str:
    """A value as it is given."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, dict):
        return ",".join(f"{name}={_as_typed(one)}" for name, one in value.items())
    if isinstance(value, list):
        return ",".join(map(_as_typed, value))
    return f"{value:g}" if isinstance(value, float) else str(value)


def _metavar(kind: object) -> str:
    if get_origin(kind) is Literal:
        return f"{{{','.join(map(str, get_args(kind)))}}}"
    leaves = [one for one in get_args(kind) if isinstance(one, type) or get_args(one)]
    if leaves and kind not in _METAVARS:
        return _metavar(leaves[0])
    return _METAVARS.get(kind, "TEXT")  # type: ignore[call-overload, no-any-return]


def describe(
    error: Exception, kind: type[BaseModel], arguments: Sequence[str] | None = None
) -> str:
    """One line for every field that is wrong: its flag, the value it has, what it must be.

    arguments: without the flag of a value, the variable that it comes from is named too.
    """
    if not isinstance(error, ValidationError):
        return str(error)
    flags = None if arguments is None else {one.partition("=")[0] for one in arguments}
    return "\n".join(_problem(dict(problem), kind, flags) for problem in error.errors())


def _problem(problem: dict[str, Any], kind: type[BaseModel], flags: Collection[str] | None) -> str:
    path = [part for part in problem["loc"] if isinstance(part, str)]
    if (field := field_at(kind, path)) is None:
        return str(problem["msg"]).removeprefix("Value error, ")
    name = next(name for at, name in enumerate(path) if field_at(kind, path[: at + 1]))
    flag = name.upper() if is_positional(field) else "--" + name.replace("_", "-")
    if problem["type"] == "missing":
        return f"{flag} is missing"
    variable = f"{kind.model_config.get('env_prefix', '')}{name}".upper()
    by = f" (of {variable})" if _comes_from(variable, flag, flags) else ""
    value = f" is {shown(problem['input'])}" if field.repr else ""  # a secret
    metadata = () if isinstance(problem["loc"][-1], int) else field.metadata
    return f"{flag}{value}{by}{told(problem, metadata)}"


def _comes_from(variable: str, flag: str, flags: Collection[str] | None) -> bool:
    return flags is not None and flag not in flags and variable in os.environ
