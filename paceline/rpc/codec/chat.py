"""Conversations to and from their messages. What templates alone understand travels as JSON."""

import json
from typing import Any, NoReturn

from paceline.errors import InvalidArgument
from paceline.protocol.generation import Chat, ChatMessage, JsonObject
from paceline.v1 import generation_pb2 as pb


def chat_to_proto(chat: Chat) -> pb.Chat:
    """paceline.v1.Chat; ValueError or TypeError for what is no JSON."""
    messages = [part for part in chat.messages if isinstance(part, ChatMessage)]
    return pb.Chat(
        messages=[_message_to_proto(part) for part in messages],
        tools_json=_to_json(list(chat.tools)),
        chat_template_kwargs_json=_to_json(dict(chat.chat_template_kwargs)),
        add_generation_prompt=chat.add_generation_prompt,
        continue_final_message=chat.continue_final_message,
    )


def chat_from_proto(message: pb.Chat) -> Chat:
    """Not checked, but for what is no JSON: InvalidArgument."""
    known = message.HasField("add_generation_prompt")
    return Chat(
        messages=tuple(_message_from_proto(part) for part in message.messages),
        tools=_objects("prompt.chat.tools_json", message.tools_json),
        chat_template_kwargs=_object(message.chat_template_kwargs_json),
        add_generation_prompt=message.add_generation_prompt if known else None,
        continue_final_message=message.continue_final_message,
    )


def _message_to_proto(message: ChatMessage) -> pb.ChatMessage:
    return pb.ChatMessage(
        role=message.role,
        content=message.content or "",
        name=message.name,
        tool_calls_json=_to_json(list(message.tool_calls)),
        tool_call_id=message.tool_call_id,
        reasoning_content=message.reasoning_content,
        without_content=message.content is None,
    )


def _message_from_proto(message: pb.ChatMessage) -> ChatMessage:
    return ChatMessage(
        role=message.role,
        content=None if message.without_content else message.content,
        name=message.name,
        tool_calls=_objects("prompt.chat's tool_calls_json", message.tool_calls_json),
        tool_call_id=message.tool_call_id,
        reasoning_content=message.reasoning_content,
    )


def _to_json(value: Any) -> str:
    """In the order of keys it has; nothing for what is empty."""
    return json.dumps(value, ensure_ascii=False, allow_nan=False) if value else ""


def _objects(field: str, text: str) -> tuple[JsonObject, ...]:
    value = _parsed(text or "[]")
    if not isinstance(value, list) or not all(isinstance(one, dict) for one in value):
        raise InvalidArgument(f"{field} is no JSON array of objects; it must be one, or empty")
    return tuple(value)


def _object(text: str) -> JsonObject:
    value = _parsed(text or "{}")
    if not isinstance(value, dict):
        field = "prompt.chat.chat_template_kwargs_json"
        raise InvalidArgument(f"{field} is no JSON object; it must be one, or empty")
    return value


def _parsed(text: str) -> Any:
    """What JSON says; None for what is none, of which no error may quote anything."""
    try:
        return json.loads(text, parse_constant=_refused)
    except (ValueError, RecursionError):
        return None


def _refused(_: str) -> NoReturn:
    raise ValueError("JSON has no such number")
