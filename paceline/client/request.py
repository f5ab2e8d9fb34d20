"""What a caller gives, as a request of plain values, or which field has the wrong type.

Nothing is converted but what means the same: one stop string is a list of one, numbers of other
libraries are Python's, messages as dicts are messages. Texts are never quoted.
"""

import enum
import operator
import types
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from numbers import Real
from typing import Any, Union, get_args, get_origin, get_type_hints

from paceline.client.messages import as_chat, is_message, items_of, kind_of
from paceline.errors import InvalidArgument, shown
from paceline.protocol.constraint import Constraint
from paceline.protocol.features import needed_of_orchestrator
from paceline.protocol.generation import Chat, GenerateRequest, Prompt
from paceline.protocol.limits import MAX_CHOICES
from paceline.protocol.sampling import Sampling

PROMPT = "text, token ids or a list of messages"
_Check = Callable[[str, Any], Any]


def as_request(given: GenerateRequest | Prompt) -> GenerateRequest:
    """A request for the server; a prompt alone is one with defaults.

    Raises InvalidArgument that names the first field of a wrong type. Names in required_features
    what an older server would leave out in silence.
    """
    request = given if isinstance(given, GenerateRequest) else GenerateRequest(given)
    request = replace(request, **_checked(request, _REQUEST, ""))
    if request.n > MAX_CHOICES:  # before room is made for them
        raise InvalidArgument.of("n", request.n, f"from 1 to {MAX_CHOICES}")
    needed = dict.fromkeys((*request.required_features, *needed_of_orchestrator(request)))
    return replace(request, required_features=tuple(needed))


def as_prompt(value: Any, field: str = "prompt") -> Prompt:
    """Text, token ids or a conversation, as given or as lists, arrays and dicts of other code."""
    if isinstance(value, str | Chat):
        return str(value) if isinstance(value, str) else as_chat(value, field)
    parts = items_of(field, value, PROMPT)
    if any(isinstance(part, str) for part in parts):
        raise InvalidArgument(f"{field} is a list of texts; it must be one prompt: {PROMPT}")
    if any(map(is_message, parts)):
        return as_chat(Chat(parts), field)
    return as_wholes(f"a token id in {field}", parts)


def as_text(field: str, value: Any) -> str:
    """Text, not bytes."""
    if not isinstance(value, str):
        raise _of_type(field, value, "text")
    return str(value)


def as_whole(field: str, value: Any) -> int:
    """A whole number, of any library's; not True and not 5.0."""
    if isinstance(value, bool):
        raise InvalidArgument.of(field, value, "a whole number")
    try:
        return operator.index(value)
    except Exception:
        raise InvalidArgument.of(field, value, "a whole number") from None


def as_number(field: str, value: Any) -> float:
    """A real number, of any library's; not True."""
    if isinstance(value, bool) or not isinstance(value, Real):
        raise InvalidArgument.of(field, value, "a number")
    try:
        return float(value)
    except Exception:
        raise InvalidArgument.of(field, value, "a number that a double holds") from None


def as_boolean(field: str, value: Any) -> bool:
    """True or False, and nothing that is as good as."""
    if value is not True and value is not False:
        raise InvalidArgument.of(field, value, "True or False")
    return value


def _texts(field: str, value: Any) -> tuple[str, ...]:
    """Texts, or one that stands for itself: not for its characters."""
    if isinstance(value, str):
        return (value,)
    limit = "text or a list of texts"
    texts = items_of(field, value, limit)
    for text in texts:
        if not isinstance(text, str):
            raise InvalidArgument(f"{field} has a value {kind_of(text)}; it must be {limit}")
    return texts


def as_wholes(field: str, value: Any) -> tuple[int, ...]:
    """Whole numbers, of any list or array."""
    numbers = items_of(field, value, "a list of whole numbers")
    if set(map(type, numbers)) <= {int}:  # a long prompt is looked at once
        return numbers
    return tuple(as_whole(field, number) for number in numbers)


def _lists_of_wholes(field: str, value: Any) -> tuple[tuple[int, ...], ...]:
    lists = items_of(field, value, "a list of lists of whole numbers")
    return tuple(as_wholes(f"{field}[{index}]", one) for index, one in enumerate(lists))


def _bias(field: str, value: Any) -> dict[int, float]:
    if not isinstance(value, Mapping):
        raise _of_type(field, value, "a mapping of token ids to numbers")
    return {
        as_whole(f"a token id in {field}", token): as_number(f"{field}[{shown(token)}]", bias)
        for token, bias in value.items()
    }


def _sampling(field: str, value: Any) -> Sampling:
    if not isinstance(value, Sampling):
        raise _of_type(field, value, "a Sampling")
    return replace(value, **_checked(value, _SAMPLING, f"{field}."))


def _constraint(field: str, value: Any) -> Constraint:
    if not isinstance(value, Constraint):
        raise _of_type(field, value, "a Constraint")
    return replace(value, **_checked(value, _CONSTRAINT, f"{field}."))


def _member(kind: type[enum.Enum]) -> _Check:
    def check(field: str, value: Any) -> enum.Enum:
        try:
            return kind(value)
        except Exception:
            limit = f"one of {', '.join(repr(one.value) for one in kind)}"
            raise InvalidArgument.of(field, value, limit) from None

    return check


def _optional(check: _Check) -> _Check:
    return lambda field, value: None if value is None else check(field, value)


def _of_type(field: str, value: object, limit: str) -> InvalidArgument:
    return InvalidArgument(f"{field} is {kind_of(value)}; it must be {limit}")


def _checked(value: Any, checks: Mapping[str, _Check], prefix: str) -> dict[str, Any]:
    """Each field as its check gives it."""
    return {name: check(f"{prefix}{name}", getattr(value, name)) for name, check in checks.items()}


def _check_of(hint: Any) -> _Check:
    """What checks values of an annotation."""
    if hint == Prompt:
        return lambda field, value: as_prompt(value, field)
    if get_origin(hint) in {Union, types.UnionType}:
        [kind] = [one for one in get_args(hint) if one is not types.NoneType]
        return _optional(_check_of(kind))
    if isinstance(hint, type) and issubclass(hint, enum.Enum):
        return _member(hint)
    return _CHECKS[hint]


_CHECKS: dict[Any, _Check] = {
    str: as_text,
    int: as_whole,
    float: as_number,
    bool: as_boolean,
    Sampling: _sampling,
    Constraint: _constraint,
    Sequence[str]: _texts,
    Sequence[int]: as_wholes,
    tuple[str, ...]: _texts,
    tuple[int, ...]: as_wholes,
    tuple[tuple[int, ...], ...]: _lists_of_wholes,
    Mapping[int, float]: _bias,
}
_CONSTRAINT = {name: _check_of(hint) for name, hint in get_type_hints(Constraint).items()}
_SAMPLING = {name: _check_of(hint) for name, hint in get_type_hints(Sampling).items()}
_REQUEST = {name: _check_of(hint) for name, hint in get_type_hints(GenerateRequest).items()}
