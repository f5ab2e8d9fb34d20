"""What vLLM has against a model, in a line."""

import contextlib
import json
import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from paceline.errors import (
    MAX_REASON,
    FailedPrecondition,
    InvalidArgument,
    PacelineError,
    in_a_line,
)
from paceline.nearest import did_you_mean

_PLACEHOLDER = re.compile(r"Declaration: _C::(\w+)\(\) -> \(\)")
"""A build of vLLM declares the kernels that it leaves out, as ones that take nothing."""

_SECRET = re.compile(r"(token|(key|secret|password)s?)$", re.IGNORECASE)
"""Ends of names whose values no log may have, wherever they stand; counts end in "tokens"."""

_NOT_IMPORTED = "failed to be inspected"
"""vLLM imports a model's code in a process of its own, whose error only its log has."""


@contextlib.contextmanager
def refusing(folder: Path, arguments: Mapping[str, Any]) -> Iterator[None]:
    """Raise FailedPrecondition with what vLLM has against the model, at whatever it fails.

    arguments: of --vllm-arguments, which may be what it has it against.
    """
    try:
        yield
    except PacelineError:
        raise
    except Exception as error:
        said = f"vLLM cannot serve {folder}: {_reason(error)}{_given(arguments)}"
        raise FailedPrecondition(said) from error


def _given(arguments: Mapping[str, Any]) -> str:
    """The flag as it was given, but for secrets; empty where it was not."""
    if not arguments:
        return ""
    return f"; --vllm-arguments is '{json.dumps(_masked(arguments))[:MAX_REASON]}'"


def _masked(value: Any) -> Any:
    """What JSON has, without the values of secrets."""
    if isinstance(value, Mapping):
        return {
            name: "..." if _SECRET.search(name) else _masked(one) for name, one in value.items()
        }
    return [_masked(one) for one in value] if isinstance(value, list) else value


def check_arguments(given: Iterable[str], known: Collection[str]) -> None:
    """Raise InvalidArgument for a name in --vllm-arguments that is none of `known`."""
    for name in given:
        if name not in known:
            limit = f"an argument of vLLM's EngineArgs{did_you_mean(name, known)}"
            raise InvalidArgument.of("a name in --vllm-arguments", name, limit)


def _reason(error: Exception) -> str:
    if _NOT_IMPORTED in str(error) and (missing := _of_torchvision()):
        return (
            f"its code cannot be imported, as the log says; torchvision {missing}, which most "
            "models that see need: install the one built with the installed torch"
        )
    if isinstance(error, ValidationError):
        return in_a_line(ValueError("; ".join(_problems(error))), kind=False)
    if left_out := _PLACEHOLDER.search(str(error)):
        return (
            f"this build of vLLM leaves out the kernel {left_out[1]}; "
            "take the model in another format, or a build for another device"
        )
    return in_a_line(error)


def _of_torchvision() -> str:
    """What is wrong with it; empty where it loads."""
    try:
        import_module("torchvision")
    except ModuleNotFoundError:
        return "is not installed"
    except Exception as error:  # built for another torch, it finds its operators missing
        return f"does not load ({in_a_line(error)})"
    return ""


def _problems(error: ValidationError) -> Iterator[str]:
    """What is wrong, without the values: vLLM's are objects of many lines."""
    for one in error.errors(include_url=False, include_input=False):
        field = ".".join(str(part) for part in one["loc"])
        said = one["msg"].removeprefix("Value error, ")
        yield f"{field}: {said}" if field else said
