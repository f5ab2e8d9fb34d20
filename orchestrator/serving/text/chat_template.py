"""Chat templates, rendered as transformers renders them: others' code, held to bounds."""

import contextlib
import json
import re
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime
from types import FrameType, MappingProxyType
from typing import Any, NoReturn

import structlog
from jinja2 import Template, nodes
from jinja2.exceptions import SecurityError, TemplateError, TemplateSyntaxError
from jinja2.ext import Extension, loopcontrols
from jinja2.parser import Parser
from jinja2.runtime import Macro
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.utils import Namespace

from paceline.errors import FailedPrecondition, InvalidArgument
from paceline.protocol.generation import ChatMessage, JsonObject

_log = structlog.get_logger(__name__)

RENDER_SECONDS = 5.0
"""A template that takes longer ends with an error."""
MAX_CHARACTERS = 16 * 1024 * 1024
"""Of what a template renders, or of what it makes by repeating: four times a whole message."""
_SHOWN = 200
_FILE = "<template>"
_CONTINUE = "prompt.chat.continue_final_message"
_MARK = "CONTINUE_FINAL_MESSAGE_TAG "
_REASONING = ("reasoning_content", "thinking", "reasoning")

Message = dict[str, Any]


class ChatTemplates:
    """A model's templates by name; one that cannot be used harms nothing but itself."""

    def __init__(self, templates: Mapping[str, str], special_tokens: Mapping[str, str]) -> None:
        """special_tokens: what templates may call by name, such as bos_token."""
        self._special_tokens = special_tokens
        environment = _Environment()
        self._compiled = {
            name: _Compiled.of(environment, name, source) for name, source in templates.items()
        }

    def render(
        self,
        messages: list[Message],
        tools: list[Message] | None = None,
        add_generation_prompt: bool | None = None,
        continue_final_message: bool = False,
        given: JsonObject = MappingProxyType({}),
    ) -> str:
        """The prompt of a conversation, as transformers' apply_chat_template makes it.

        It ends where the assistant is to speak, or, to continue the final message, within that.
        given: what else the template is told by name. Raises InvalidArgument for a conversation
        that the template refuses or fails at, FailedPrecondition where the model's is none.
        """
        if add_generation_prompt is None:
            add_generation_prompt = not continue_final_message
        known = {"tools": tools, "add_generation_prompt": add_generation_prompt}
        told = {"documents": None, **self._special_tokens, **given, **known}
        turns, template = [_message(one) for one in messages], self._pick(tools)
        if continue_final_message:
            return _continued(turns, lambda marked: template.render({**told, "messages": marked}))
        return template.render({**told, "messages": turns})

    def _pick(self, tools: list[Message] | None) -> "_Compiled":
        """The template for tools where there is one and tools are given, else the default."""
        if not self._compiled:
            raise InvalidArgument("prompt.chat: the model has no chat template; send text instead")
        for name in ("tool_use",) * (tools is not None) + ("default",):
            if name in self._compiled:
                return self._compiled[name]
        names = ", ".join(sorted(self._compiled))
        raise InvalidArgument(f"prompt.chat: the model's templates are {names}; none is default")


class _Compiled:
    """A template, or what is wrong with it."""

    def __init__(self, template: Template | None, texts: list[str], broken: str = "") -> None:
        self._template = template
        self._texts = texts
        self._broken = broken

    @classmethod
    def of(cls, environment: "_Environment", name: str, source: str) -> "_Compiled":
        """Compile it, or note why that cannot be."""
        try:
            return cls(environment.from_string(source), _literals(environment, source))
        except Exception as error:
            reason = _syntax(error)
            _log.warning("chat template cannot be used", template=name, reason=reason)
            return cls(None, [], reason)

    def render(self, given: JsonObject) -> str:
        """What it makes of what it is given by name."""
        if self._template is None:
            raise FailedPrecondition(
                f"prompt.chat: the model's chat template cannot be used: {self._broken}; "
                "send text or token ids instead"
            )
        try:
            with _deadline(RENDER_SECONDS):
                return "".join(_bounded(self._template.generate(given)))
        except Exception as error:
            reason = self._reason(error)
            # Without the cause, whose text and frames may hold the conversation.
            raise InvalidArgument(f"prompt.chat: the chat template refuses it: {reason}") from None

    def _reason(self, error: Exception) -> str:
        """What the template says of it, in its own words; never in those of the conversation."""
        if isinstance(error, _Exceeded):
            return str(error)
        if isinstance(error, _Refused):
            own = max((one for one in self._texts if one in str(error)), key=len, default="")
            return _cut(own) if own == str(error) else _cut(own) + "..."
        return f"{type(error).__name__} in its line {_line(error)}"


class _Environment(ImmutableSandboxedEnvironment):
    """As transformers' environment: the same sandbox, trimming, tags and helpers."""

    # Repeating is how a short template makes what no memory holds.
    intercepted_binops = frozenset({"*", "**"})

    def __init__(self) -> None:
        super().__init__(
            trim_blocks=True, lstrip_blocks=True, extensions=[_GenerationTag, loopcontrols]
        )
        self.filters["tojson"] = _tojson
        self.globals["raise_exception"] = _raise_exception
        self.globals["strftime_now"] = _strftime_now
        self.globals["dict"] = _Dict()
        self.globals["namespace"] = _Namespace

    def call_binop(self, context: Any, operator: str, left: Any, right: Any) -> Any:
        """Products and powers, unless they are too large to be made."""
        if operator == "**" and not (abs(left) <= 2**32 and abs(right) <= 1024):
            raise _Exceeded("it raises a number beyond 2**32 or to more than the power of 1024")
        for text, times in ((left, right), (right, left)):
            if hasattr(text, "__len__") and len(text) * times > MAX_CHARACTERS:
                raise _Exceeded(f"it repeats a text beyond {MAX_CHARACTERS} characters")
        return super().call_binop(context, operator, left, right)


class _GenerationTag(Extension):
    """{% generation %}: marks what an assistant said, for training; here its content alone."""

    tags = {"generation"}  # noqa: RUF012 - Jinja declares it, as a set

    def parse(self, parser: Parser) -> nodes.Node:
        """A block that is called for its content."""
        line = next(parser.stream).lineno
        body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
        return nodes.CallBlock(self.call_method("_content"), [], [], body).set_lineno(line)

    def _content(self, caller: Macro) -> str:
        return caller()


class _Dict:
    """The builtin without its attributes, as transformers gives it to templates."""

    def __call__(self, *args: Any, **kwargs: Any) -> dict[Any, Any]:
        """A dict."""
        return dict(*args, **kwargs)

    def fromkeys(self, *args: Any, **kwargs: Any) -> dict[Any, Any]:
        """As dict.fromkeys."""
        return dict.fromkeys(*args, **kwargs)


class _Namespace(Namespace):
    """Jinja's, which takes no name that begins with an underscore."""

    def __init__(*args: Any, **kwargs: Any) -> None:  # a template may set `self` too
        self, args = args[0], args[1:]
        given = dict(*args, **kwargs)
        for name in given:
            _check_name(name)
        Namespace.__init__(self, given)

    def __setitem__(self, name: str, value: Any) -> None:
        _check_name(name)
        Namespace.__setitem__(self, name, value)


class _Refused(TemplateError):
    """Raised by the template itself."""


class _Exceeded(TemplateError):
    """A bound of ours was passed."""


def _check_name(name: object) -> None:
    if isinstance(name, str) and name.startswith("_"):
        raise SecurityError("a namespace has no names that begin with an underscore")


def _raise_exception(message: Any) -> NoReturn:
    raise _Refused(str(message))


def _strftime_now(form: str) -> str:
    return datetime.now().astimezone().replace(tzinfo=None).strftime(form)


def _tojson(
    value: Any,
    ensure_ascii: bool = False,
    indent: int | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    """JSON as models were trained on it: Jinja's own escapes what HTML would misread."""
    return json.dumps(
        value,
        ensure_ascii=ensure_ascii,
        indent=indent,
        separators=separators,
        sort_keys=sort_keys,
    )


def as_template_message(message: ChatMessage | JsonObject) -> Message:
    """By name, as templates read it: without what it does not have."""
    if not isinstance(message, ChatMessage):
        return dict(message)
    calls = [_with_arguments(call) for call in message.tool_calls]
    more = {
        "name": message.name,
        "tool_calls": calls,
        "tool_call_id": message.tool_call_id,
        "reasoning_content": message.reasoning_content,
    }
    said = {"role": message.role, "content": message.content}
    return {**said, **{name: value for name, value in more.items() if value}}


def _with_arguments(call: JsonObject) -> JsonObject:
    """A call whose arguments are an object: templates write them as JSON, and OpenAI has done so.

    What is no JSON object stays text, as templates may know it.
    """
    function = call.get("function")
    if not isinstance(function, dict) or not isinstance(function.get("arguments"), str):
        return call
    try:
        arguments = json.loads(function["arguments"] or "{}")
    except (ValueError, RecursionError):
        return call
    kept = arguments if isinstance(arguments, dict) else function["arguments"]
    return {**call, "function": {**function, "arguments": kept}}


def _continued(messages: list[Message], render: Callable[[list[Message]], str]) -> str:
    """What `render` makes of a conversation up to the end of its last message's content.

    As transformers finds it: by a mark behind the content.
    """
    content = messages[-1].get("content")
    if not isinstance(content, str):
        raise InvalidArgument(f"{_CONTINUE}: the final message has no content to continue")
    text = render([*messages[:-1], {**messages[-1], "content": content + _MARK}])
    if content.strip() not in text or _MARK.strip() not in text:
        raise InvalidArgument(f"{_CONTINUE}: the chat template leaves out part of the message")
    end = text.rindex(_MARK.strip())
    return text[:end] if text[end:].startswith(_MARK) else text[:end].rstrip()


def _message(message: Message) -> Message:
    """As transformers hands it over: nothing that is None, reasoning by all of its names."""
    kept = {name: value for name, value in message.items() if value is not None}
    reasoning = next((kept[name] for name in _REASONING if name in kept), None)
    if reasoning is None:
        return kept
    return {"thinking": reasoning, **kept, "reasoning_content": reasoning}


@contextlib.contextmanager
def _deadline(seconds: float) -> Iterator[None]:
    """Have what runs of a template in this thread end after `seconds`.

    By Python's own tracing, of the lines of templates alone: no loop in one goes on without
    beginning a line, and nothing else can stop a thread.
    """
    until = time.monotonic() + seconds

    def look(frame: FrameType, event: str, _: Any) -> Any:
        if frame.f_code.co_filename != _FILE:
            return None
        if event == "line" and time.monotonic() > until:
            raise _Exceeded(f"it took longer than {seconds:g} s")
        return look

    before = sys.gettrace()
    sys.settrace(look)
    try:
        yield
    finally:
        sys.settrace(before)


def _bounded(pieces: Iterator[str]) -> Iterator[str]:
    characters = 0
    for piece in pieces:
        characters += len(piece)
        if characters > MAX_CHARACTERS:
            raise _Exceeded(f"it makes more than {MAX_CHARACTERS} characters")
        yield piece


def _literals(environment: _Environment, source: str) -> list[str]:
    """The texts that a template has in its expressions."""
    constants = environment.parse(source).find_all(nodes.Const)
    return [one.value for one in constants if isinstance(one.value, str)]


def _syntax(error: Exception) -> str:
    where = f" in its line {error.lineno}" if isinstance(error, TemplateSyntaxError) else ""
    return _cut(f"{type(error).__name__}{where}: {error}")


def _line(error: BaseException) -> int:
    """Where in the template an error came from; Jinja gives its frames the template's lines."""
    line, trace = 0, error.__traceback__
    while trace is not None:
        if trace.tb_frame.f_code.co_filename == _FILE:
            line = trace.tb_lineno
        trace = trace.tb_next
    return line


def _cut(text: str) -> str:
    text = re.sub(r"\s+", " ", text)
    return text if len(text) <= _SHOWN else text[: _SHOWN - 3] + "..."
