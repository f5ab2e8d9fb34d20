"""What generate and chat hold an output to."""

from pathlib import Path

from pydantic import Field

from paceline.errors import InvalidArgument
from paceline.protocol.constraint import JSON_OBJECT, Constraint, ConstraintKind
from paceline_tools.cli.asking_options import AskingOptions
from paceline_tools.cli.flags import Text


class ConstraintOptions(AskingOptions):
    """Flags of structured output, of which one at most is given."""

    json_schema: Text | None = Field(
        None,
        description="The output is JSON of this schema: a file, or the schema itself. Unless "
        "given: any text.",
    )
    json_object: bool = Field(False, description="The output is a JSON object.")
    regex: Text | None = Field(
        None,
        description="The whole output is what this regular expression matches. Unless given: any "
        "text.",
    )
    choice: list[Text] = Field(
        [],
        description="The output is one of these strings, taken as it is; given again for each. "
        "Unless given: any text.",
    )
    grammar: Path | None = Field(
        None,
        description="The output is what this file's grammar describes: Lark, or GBNF. Unless "
        "given: any text.",
    )

    def constraint(self) -> Constraint | None:
        """What the flags hold the output to; InvalidArgument names those that are wrong."""
        given = {
            "--json-schema": self.json_schema is not None,
            "--json-object": self.json_object,
            "--regex": self.regex is not None,
            "--choice": bool(self.choice),
            "--grammar": self.grammar is not None,
        }
        flags = [flag for flag, there in given.items() if there]
        if len(flags) > 1:
            raise InvalidArgument(f"{' and '.join(flags)} are given; only one of them can be")
        return self._made()

    def _made(self) -> Constraint | None:
        if self.json_schema is not None:
            text = self.json_schema
            inline = text.lstrip().startswith("{")
            text = text if inline else _read("--json-schema", Path(text))
            return Constraint(ConstraintKind.JSON_SCHEMA, text)
        if self.grammar is not None:
            return Constraint(ConstraintKind.GRAMMAR, _read("--grammar", self.grammar))
        if self.regex is not None:
            return Constraint(ConstraintKind.REGEX, self.regex)
        if self.choice:
            return Constraint(ConstraintKind.CHOICE, options=tuple(self.choice))
        return JSON_OBJECT if self.json_object else None


def _read(flag: str, path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        reason = error.strerror or str(error)
        raise InvalidArgument(f"{flag}: {str(path)!r} cannot be read: {reason}") from error
    except UnicodeDecodeError as error:
        raise InvalidArgument(f"{flag}: {str(path)!r} is not valid UTF-8") from error
