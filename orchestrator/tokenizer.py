"""The target's tokenizer and chat template, on Hugging Face tokenizers and Jinja; no torch."""

from datetime import datetime
from typing import Any, NoReturn

from jinja2.exceptions import TemplateError
from jinja2.ext import loopcontrols
from jinja2.sandbox import ImmutableSandboxedEnvironment
from tokenizers import Tokenizer
from tokenizers.decoders import DecodeStream

from paceline.errors import InvalidArgument
from paceline.generation import ChatMessage, Prompt
from paceline.session import TokenizerFiles

CACHED_WORDS = 1_000
"""How words are split is kept for the first so many, by each thread; see docs/decisions.md."""


class TargetTokenizer:
    """Turns prompts into token ids, and token ids into text."""

    def __init__(self, files: TokenizerFiles) -> None:
        """Take the files as the target sent them."""
        self._tokenizer = Tokenizer.from_str(files.tokenizer_json.decode())
        if resize := getattr(self._tokenizer.model, "_resize_cache", None):  # some have no cache
            resize(CACHED_WORDS)
        self._special_tokens = files.special_tokens
        # As transformers renders chat templates: the same sandbox, trimming and helpers.
        environment = ImmutableSandboxedEnvironment(
            trim_blocks=True, lstrip_blocks=True, extensions=[loopcontrols]
        )
        environment.globals["raise_exception"] = _raise_exception
        environment.globals["strftime_now"] = lambda form: (
            datetime.now().astimezone().strftime(form)
        )
        self._template = (
            environment.from_string(files.chat_template) if files.chat_template else None
        )

    def encode(self, prompt: Prompt) -> tuple[int, ...]:
        """Token ids of a prompt; ids are taken as they are, text gets the model's own specials.

        Raises InvalidArgument for a conversation the model's template refuses.
        """
        if isinstance(prompt, str):
            return tuple(self._tokenizer.encode(prompt).ids)
        messages = [part for part in prompt if isinstance(part, ChatMessage)]
        if messages:
            text = self._render(messages)
            return tuple(self._tokenizer.encode(text, add_special_tokens=False).ids)
        return tuple(part for part in prompt if isinstance(part, int))

    def detokenizer(self) -> "Detokenizer":
        """An incremental detokenizer at the beginning of an output."""
        return Detokenizer(self._tokenizer)

    def _render(self, messages: list[ChatMessage]) -> str:
        if self._template is None:
            raise InvalidArgument("prompt.chat: the model has no chat template; send text instead")
        turns: list[dict[str, Any]] = [
            {"role": message.role, "content": message.content} for message in messages
        ]
        try:
            return self._template.render(
                messages=turns, add_generation_prompt=True, **self._special_tokens
            )
        except TemplateError as error:
            raise InvalidArgument(f"prompt.chat: the chat template refuses it: {error}") from error


class Detokenizer:
    """Text of an output, token by token; never half a character, no special tokens."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        """Begin before the first token."""
        self._tokenizer = tokenizer
        self._stream = DecodeStream(skip_special_tokens=True)
        self._pending: list[int] = []

    def alone(self, token: int) -> str:
        """The text of `token` without what is before it; special tokens by their names."""
        return self._tokenizer.decode([token], skip_special_tokens=False)

    def step(self, token: int) -> str:
        """The text that `token` completes; empty while a character lacks bytes."""
        self._pending.append(token)
        text: str | None = self._stream.step(self._tokenizer, token)
        if text is None:
            return ""
        self._pending.clear()
        return text

    def flush(self) -> str:
        """What is left when the output ends: bytes of no whole character, replaced (U+FFFD)."""
        pending, self._pending = self._pending, []
        return self._tokenizer.decode(pending, skip_special_tokens=True)


def _raise_exception(message: str) -> NoReturn:
    raise TemplateError(message)
