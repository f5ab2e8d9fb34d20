"""What an output is held to: structured output, as plain values."""

import enum
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from paceline.errors import InvalidArgument

MAX_CONSTRAINT_CHARACTERS = 256 * 1024
MAX_OPTIONS = 1024


class ConstraintKind(enum.Enum):
    """How a constraint is written down."""

    JSON_SCHEMA = "json_schema"
    REGEX = "regex"
    CHOICE = "choice"
    GRAMMAR = "grammar"
    STRUCTURAL_TAG = "structural_tag"


@dataclass(frozen=True, slots=True)
class Constraint:
    """The language of the whole output.

    text: the schema, regular expression or grammar; options: of CHOICE, one of which the output is.
    """

    kind: ConstraintKind
    text: str = ""
    options: tuple[str, ...] = ()

    def check(self) -> None:
        """InvalidArgument for an empty or too large one; whether it has a meaning is seen later."""
        kind = self.kind.value
        size = len(self.text) + sum(map(len, self.options))
        if not 1 <= size <= MAX_CONSTRAINT_CHARACTERS:
            limit = f"from 1 to {MAX_CONSTRAINT_CHARACTERS} characters"
            raise InvalidArgument.of(f"sampling.constraint.{kind}'s length", size, limit)
        if len(self.options) > MAX_OPTIONS:
            limit = f"at most {MAX_OPTIONS} strings"
            raise InvalidArgument.of(
                f"sampling.constraint.{kind}'s length", len(self.options), limit
            )
        if not all(self.options):
            raise InvalidArgument.of(f"a string of sampling.constraint.{kind}", "", "not empty")


def json_schema(schema: str | Mapping[str, Any]) -> Constraint:
    """A JSON value that the schema describes; schema: as text, or as it was parsed."""
    text = schema if isinstance(schema, str) else json.dumps(schema)
    return Constraint(ConstraintKind.JSON_SCHEMA, text)


JSON_OBJECT = json_schema('{"type": "object"}')
"""Any JSON object: what others call JSON mode."""
