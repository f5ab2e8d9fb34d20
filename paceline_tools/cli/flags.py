"""Flags whose values are text: taken as they were typed, byte for byte."""

import json
from argparse import ArgumentParser, Namespace
from collections.abc import Sequence
from typing import Annotated

from pydantic import AfterValidator, AllowInfNan, BeforeValidator, Field
from pydantic_core import PydanticCustomError

from paceline.addresses import checked_target
from paceline.client.addresses import orchestrators
from paceline.errors import InvalidArgument
from paceline.rpc.wire_ranges import INT32
from paceline.settings import ORCHESTRATOR_PORT

VERBATIM = {"stop", "bad_words", "choice", "target", "draft"}
"""Flags, of several commands, that may be given again, and are one text each time."""


def _word(value: object) -> object:
    """The settings library takes the word None for no value."""
    return "None" if value is None else value


def _encodable(value: str) -> str:
    try:
        value.encode()
    except UnicodeEncodeError:
        raise PydanticCustomError("utf8", "must be valid UTF-8") from None
    return value


def _address(value: str) -> str:
    try:
        return checked_target(value)
    except InvalidArgument as error:
        limit = str(error).partition("; it ")[2]
        raise PydanticCustomError("address", "{limit}", {"limit": limit}) from None


def _orchestrators(value: str) -> str:
    try:
        return str(orchestrators(value))
    except InvalidArgument as error:
        limit = str(error).partition("; it ")[2]
        raise PydanticCustomError("address", "{limit}", {"limit": limit}) from None


MOST_TOKENS = INT32[-1]
Finite = Annotated[float, AllowInfNan(False)]
"""A number, which nan and inf are not."""
Text = Annotated[str, BeforeValidator(_word), AfterValidator(_encodable)]
Address = Annotated[Text, AfterValidator(_address)]
OrchestratorAddress = Annotated[
    Text,
    AfterValidator(_orchestrators),
    Field(
        description="The orchestrator: host, host:port or unix:/path; several with commas between "
        "are asked in turn. grpcs:// in front means TLS."
    ),
]
ORCHESTRATOR = f"localhost:{ORCHESTRATOR_PORT}"
"""Where it is, unless told otherwise."""


def taken_as_typed(
    parser: ArgumentParser, arguments: Sequence[str], namespace: Namespace | None = None
) -> Namespace:
    """The command line parsed, its lists as JSON of texts: fields say which of them are numbers.

    The settings library would read a word as nan, a quote or a bracket as JSON of its own.
    """
    parsed = ArgumentParser.parse_args(parser, arguments, namespace)
    for name, value in vars(parsed).items():
        if isinstance(value, list):
            verbatim = name.rpartition(".")[2] in VERBATIM
            setattr(parsed, name, json.dumps(value if verbatim else _parts(value)))
    return parsed


def _parts(values: Sequence[str]) -> list[str]:
    """Of lists with commas."""
    return [part.strip() for value in values for part in value.split(",")]
