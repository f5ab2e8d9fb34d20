"""A command as it can be typed again. Pure."""

import shlex
from collections.abc import Iterator
from typing import Any

from pydantic import BaseModel
from pydantic.fields import FieldInfo


def as_typed(command: str, given: BaseModel) -> str:
    """The command with the flags that it was given."""
    fields = type(given).model_fields
    flags = (
        flag
        for name, field in fields.items()
        if name in given.model_fields_set
        for flag in _flags(name, field, getattr(given, name))
    )
    return shlex.join(["paceline", command, *flags])


def _flags(name: str, field: FieldInfo, value: Any) -> Iterator[str]:
    flag = (field.alias or name).replace("_", "-")
    if isinstance(value, bool):
        yield f"--{flag}" if value else f"--no-{flag}"
        return
    for one in value if isinstance(value, list) else [value]:
        yield f"--{flag}"
        yield str(one)
