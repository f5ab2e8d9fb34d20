"""Schemas of the public JSON-Schema-Test-Suite, as the sdist of jsonschema 4.26.0 carries it.

schemas.json has each distinct schema of `json/tests/draft2020-12/*.json`, and those of
`json/tests/draft7/*.json` that are not there, with their `$schema` stated. LICENSE is its own.
"""

import json
from dataclasses import dataclass
from decimal import Context, Decimal, localcontext
from pathlib import Path
from typing import Any

from jsonschema import Draft7Validator, Draft202012Validator


@dataclass(frozen=True, eq=False)
class Case:
    """One schema of the suite: its file, what it is about, and itself."""

    file: str
    description: str
    schema: Any

    def check(self, text: str) -> None:
        """ValidationError of jsonschema where JSON is not what the schema describes.

        In decimals: as floats 2950826.55 is no multiple of 0.0001.
        """
        kind = Draft7Validator if self.file.startswith("draft7/") else Draft202012Validator
        with localcontext(Context(prec=_DIGITS)):
            kind(_decimals(json.dumps(self.schema))).validate(_decimals(text))


_DIGITS = 1000
"""More than the quotient of any two numbers of an output and its schema."""


def _decimals(text: str) -> Any:
    return json.loads(text, parse_float=Decimal)


CASES = tuple(
    Case(**each)
    for each in json.loads((Path(__file__).parent / "schemas.json").read_text(encoding="utf-8"))
)
