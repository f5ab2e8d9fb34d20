"""The target's tokenizer and chat template, on Hugging Face tokenizers and Jinja; no torch."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from tokenizers import Tokenizer
from tokenizers.pre_tokenizers import ByteLevel

from orchestrator.serving.text.chat_template import ChatTemplates, Message, as_template_message
from orchestrator.serving.text.detokenizer import NO_TEXT, Detokenizer, Vocabulary
from paceline.errors import FailedPrecondition, InvalidArgument
from paceline.protocol.generation import Chat, ChatMessage, Prompt, chat_of, token_ids_of
from paceline.protocol.model import TokenizerFiles

_IDS_ALONE = "the model has no tokenizer.json; send token ids"
NO_TOKENIZER = "the model has no tokenizer.json: its tokens have no text"
PIECE_CHARACTERS, LEAST_PIECE = 16, 64 * 1024
"""Of a text that is longer than this for each position, and than this in all, so much is tokenized
before the whole: few have as many characters in a token."""
SLACK = 2
"""A piece with so many times more tokens than there are positions stands for its text: where it was
cut may change what tokens it has, but not halve them."""
CACHED_WORDS = 1_000
"""Words of which each thread keeps the split; why: docs/decisions/vocabularies.md."""


class TargetTokenizer:
    """Turns prompts into token ids, and token ids into text."""

    def __init__(self, files: TokenizerFiles | None) -> None:
        """Take the files as the target sent them; None: token ids alone are known."""
        self._tokenizer = _load(files.tokenizer_json) if files else None
        self._longest = _longest_token(self._tokenizer) if self._tokenizer else None
        self._vocabulary = Vocabulary(self._tokenizer) if self._tokenizer else None
        templates = {"default": files.chat_template, **files.named_templates} if files else {}
        self._templates = ChatTemplates(
            {name: source for name, source in templates.items() if source},
            files.special_tokens if files else {},
        )

    @property
    def has_text(self) -> bool:
        """Whether tokens have text; else they are ids alone."""
        return self._tokenizer is not None

    def encode(self, prompt: Prompt, max_positions: int | None = None) -> tuple[int, ...]:
        """Token ids of a prompt; ids are taken as they are, text gets the model's own specials.

        Raises InvalidArgument for a conversation the model's template refuses, and for a text
        that cannot fit max_positions whatever its tokens are, before it looks for them.
        """
        if isinstance(prompt, str):
            return self._ids(prompt, max_positions, specials=True)
        if (chat := chat_of(prompt)) is not None:
            return self.encode_chat(
                [as_template_message(one) for one in chat.messages],
                [dict(tool) for tool in chat.tools] or None,
                max_positions,
                add_generation_prompt=chat.add_generation_prompt,
                continue_final_message=chat.continue_final_message,
                given=chat.chat_template_kwargs,
            )
        return token_ids_of(prompt)

    def encode_chat(
        self,
        messages: list[Message],
        tools: list[Message] | None = None,
        max_positions: int | None = None,
        **how: Any,
    ) -> tuple[int, ...]:
        """Token ids of a conversation, of which templates take the messages; how: as of render."""
        if self._tokenizer is None:  # said before anything of templates, which would be no help
            raise FailedPrecondition(f"prompt.chat: {_IDS_ALONE}")
        text = self._templates.render(messages, tools, **how)
        return self._ids(text, max_positions, specials=False)

    def encode_part(self, text: str) -> tuple[int, ...]:
        """Token ids of a part of a text, without the model's own specials."""
        return self._ids(text, None, specials=False)

    def decode(self, token_ids: Sequence[int], *, skip_special_tokens: bool = True) -> str:
        """The text of `token_ids`, taken as a whole text and not as an output behind its prompt.

        Raises FailedPrecondition where tokens have no text.
        """
        if self._vocabulary is None:
            raise FailedPrecondition(f"token_ids: {NO_TOKENIZER}")
        return self._vocabulary.decode(list(token_ids), specials=not skip_special_tokens)

    def detokenizer(self, *, skip_special_tokens: bool = True) -> Detokenizer:
        """An incremental detokenizer at the beginning of an output."""
        if self._vocabulary is None:
            return NO_TEXT
        return self._vocabulary.detokenizer(specials=not skip_special_tokens)

    def _ids(self, text: str, max_positions: int | None, *, specials: bool) -> tuple[int, ...]:
        if self._tokenizer is None:
            raise FailedPrecondition(f"prompt: {_IDS_ALONE}")
        if max_positions and self._longest and len(text) > max_positions * self._longest:
            limit = f"at most {max_positions * self._longest} characters, "
            limit += f"{self._longest} for each of the model's {max_positions} positions"
            raise InvalidArgument.of("prompt's length", len(text), limit)
        if max_positions:
            _check_piece(self._tokenizer, text, max_positions)
        return tuple(_encoded(self._tokenizer, text, specials=specials))


def _encoded(tokenizer: Tokenizer, text: str, *, specials: bool) -> list[int]:
    # As a batch of one: without offsets, which nobody needs, and off Python's lock.
    [encoding] = tokenizer.encode_batch_fast([text], add_special_tokens=specials)
    return list(encoding.ids)


def _check_piece(tokenizer: Tokenizer, text: str, max_positions: int) -> None:
    """InvalidArgument where the beginning of a long text has far too many tokens already."""
    length = max(LEAST_PIECE, PIECE_CHARACTERS * max_positions)
    if len(text) <= length:
        return
    count = len(_encoded(tokenizer, text[:length], specials=False))
    if count > SLACK * max_positions:
        what = f"prompt has {count} tokens in its first {length} characters"
        limit = f"it must be under {max_positions} tokens, the model's positions"
        raise InvalidArgument(f"{what}; {limit}")


def characters(prompt: Prompt) -> int:
    """Of the texts in a prompt; of token ids how many there are."""
    if isinstance(prompt, Chat):
        return _characters((prompt.messages, prompt.tools, prompt.chat_template_kwargs))
    of_ids = not isinstance(prompt, str) and bool(prompt) and isinstance(prompt[0], int)
    return len(prompt) if of_ids else _characters(prompt)


def _characters(value: object) -> int:
    """Of the texts in messages, or in what JSON has."""
    if isinstance(value, str):
        return len(value)
    if isinstance(value, ChatMessage):
        return _characters((value.content, value.reasoning_content, value.tool_calls))
    if isinstance(value, Mapping):
        return _characters(tuple(value.values()))
    return sum(map(_characters, value)) if isinstance(value, Sequence) else 0


def _load(content: bytes) -> Tokenizer:
    tokenizer = Tokenizer.from_str(content.decode())
    # Saved with the file by who trained with it: they would clip and pad prompts.
    tokenizer.no_truncation()
    tokenizer.no_padding()
    if resize := getattr(tokenizer.model, "_resize_cache", None):  # some have no cache
        resize(CACHED_WORDS)
    return tokenizer


def _longest_token(tokenizer: Tokenizer) -> int | None:
    """Most characters that a token can stand for; None where a token stands for any number.

    So it is where unknown characters share a token, where text is normalized, and where
    added tokens take the blanks beside them.
    """
    vocabulary = tokenizer.get_vocab()
    bytes_known = all(f"<0x{byte:02X}>" in vocabulary for byte in range(256)) or all(
        letter in vocabulary for letter in ByteLevel.alphabet()
    )
    added = tokenizer.get_added_tokens_decoder().values()
    if not bytes_known or any(token.lstrip or token.rstrip for token in added):
        return None
    kind = json.loads(tokenizer.normalizer.__getstate__())["type"] if tokenizer.normalizer else ""
    if kind not in {"", "NFC"}:
        return None
    # NFC makes one character of four at most.
    return max(map(len, vocabulary)) * (4 if kind else 1)
