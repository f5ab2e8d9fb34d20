"""Conversations as OpenAI's clients write them, as ours, or what is wrong with them by name."""

import dataclasses
import json
from collections.abc import Iterable, Mapping
from typing import Any

from paceline.errors import InvalidArgument, shown
from paceline.protocol.generation import Chat, ChatMessage, JsonObject

FIELDS = tuple(field.name for field in dataclasses.fields(ChatMessage))
_OWN = "a message has " + ", ".join(FIELDS)
_CONTENT = "text, or a list of text parts; only a message with tool_calls goes without"
_JSON = "texts, numbers, lists and objects that JSON can say"


def is_message(value: object) -> bool:
    """Whether it is one, or is meant as one."""
    return isinstance(value, ChatMessage | Mapping)


def as_chat(chat: Chat, field: str = "prompt") -> Chat:
    """A conversation of messages that have the right types; InvalidArgument names what has not."""
    return Chat(
        messages=tuple(
            _message(f"{field}[{index}]", message)
            for index, message in enumerate(items_of(f"{field}.messages", chat.messages, "a list"))
        ),
        tools=_objects(f"{field}.tools", chat.tools),
        chat_template_kwargs=_object(f"{field}.chat_template_kwargs", chat.chat_template_kwargs),
        add_generation_prompt=_flag(
            f"{field}.add_generation_prompt", chat.add_generation_prompt, None
        ),
        continue_final_message=bool(
            _flag(f"{field}.continue_final_message", chat.continue_final_message)
        ),
    )


def _message(field: str, message: object) -> ChatMessage:
    """One message. None is as not given, as OpenAI's clients give it back."""
    if not isinstance(message, ChatMessage | Mapping):
        raise InvalidArgument(f"{field} is {kind_of(message)}; it must be a message, as the others")
    given = _given(message)
    for name in given:
        if name not in FIELDS:
            raise InvalidArgument(f"{field} has {shown(name)}; {_OWN}")
    calls = _objects(f"{field}.tool_calls", given.get("tool_calls", ()))
    return ChatMessage(
        role=_role(field, given.get("role")),
        content=_content(field, given.get("content"), optional=bool(calls)),
        tool_calls=calls,
        **{
            name: _text(f"{field}.{name}", given.get(name, ""))
            for name in ("name", "tool_call_id", "reasoning_content")
        },
    )


def _given(message: ChatMessage | JsonObject) -> dict[str, Any]:
    if isinstance(message, ChatMessage):
        named: Iterable[tuple[str, Any]] = ((name, getattr(message, name)) for name in FIELDS)
    else:
        named = message.items()
    return {name: value for name, value in named if value is not None}


def _role(field: str, role: object) -> str:
    if not role:
        raise InvalidArgument(f"{field} has no role; it must be one, as user or assistant")
    return _text(f"{field}.role", role)


def _content(field: str, content: object, *, optional: bool) -> str | None:
    """Text; of parts the texts, each on lines of its own, as vLLM and llama.cpp join them."""
    if content is None and not optional:
        raise InvalidArgument(f"{field} has no content; it must be {_CONTENT}")
    if content is None or isinstance(content, str):
        return content
    if not isinstance(content, list | tuple):
        raise InvalidArgument(f"{field}.content is {kind_of(content)}; it must be {_CONTENT}")
    return "\n".join(_part(f"{field}.content[{index}]", part) for index, part in enumerate(content))


def _part(field: str, part: object) -> str:
    kind = part.get("type") if isinstance(part, Mapping) else None
    if not isinstance(part, Mapping) or kind is None:
        raise InvalidArgument(f"{field} is {kind_of(part)}; it must be an object of type 'text'")
    if kind != "text":
        raise InvalidArgument(f"{field} has the type {shown(kind)}; only 'text' is taken")
    return _text(f"{field}.text", part.get("text"))


def _text(field: str, value: object) -> str:
    if not isinstance(value, str):
        raise InvalidArgument(f"{field} is {kind_of(value)}; it must be text")
    return value


def _flag(field: str, value: object, *others: object) -> bool | None:
    if value is True or value is False or value in others:
        return value  # type: ignore[return-value]
    raise InvalidArgument.of(field, value, "True or False")


def items_of(field: str, value: Any, limit: str) -> tuple[Any, ...]:
    """What a list, array or generator has; one that fails while it is read is somebody's code."""
    if isinstance(value, str | bytes | bytearray | Mapping) or not isinstance(value, Iterable):
        raise InvalidArgument(f"{field} is {kind_of(value)}; it must be {limit}")
    try:
        return tuple(value)
    except Exception as error:
        raise InvalidArgument(
            f"{field} raised {type(error).__name__} as it was read; it must be {limit}"
        ) from error


def _objects(field: str, value: object) -> tuple[JsonObject, ...]:
    objects = items_of(field, value, "a list")
    return tuple(_object(f"{field}[{index}]", one) for index, one in enumerate(objects))


def _object(field: str, value: object) -> JsonObject:
    """What JSON calls an object, of what it can say."""
    if not isinstance(value, Mapping) or not all(isinstance(name, str) for name in value):
        raise InvalidArgument(f"{field} is {kind_of(value)}; it must be a mapping by names")
    try:
        json.dumps(dict(value), allow_nan=False, ensure_ascii=False).encode()
    except (TypeError, ValueError, RecursionError):
        raise InvalidArgument(f"{field} has other than JSON; it must be {_JSON}") from None
    return dict(value)


def kind_of(value: object) -> str:
    """The type of a value that is not quoted."""
    return "None" if value is None else f"of type {shown(type(value).__name__)[1:-1]}"
