"""The target's tokenizer and chat template, on Hugging Face tokenizers and Jinja; no torch."""

import dataclasses

from tokenizers import Tokenizer

from orchestrator.chat_template import ChatTemplates, Message
from orchestrator.detokenizer import NO_TEXT, Detokenizer, Vocabulary
from paceline.errors import FailedPrecondition
from paceline.generation import ChatMessage, Prompt
from paceline.session import TokenizerFiles

CACHED_WORDS = 1_000
"""How words are split is kept for the first so many, by each thread; see docs/decisions.md."""


class TargetTokenizer:
    """Turns prompts into token ids, and token ids into text."""

    def __init__(self, files: TokenizerFiles | None) -> None:
        """Take the files as the target sent them; None: token ids alone are known."""
        self._tokenizer = _load(files.tokenizer_json) if files else None
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

    def encode(self, prompt: Prompt) -> tuple[int, ...]:
        """Token ids of a prompt; ids are taken as they are, text gets the model's own specials.

        Raises InvalidArgument for a conversation the model's template refuses.
        """
        if isinstance(prompt, str):
            return self._ids(prompt, specials=True)
        messages = [part for part in prompt if isinstance(part, ChatMessage)]
        if messages:
            return self.encode_chat([dataclasses.asdict(message) for message in messages])
        return tuple(part for part in prompt if isinstance(part, int))

    def encode_chat(
        self,
        messages: list[Message],
        tools: list[Message] | None = None,
        documents: list[Message] | None = None,
    ) -> tuple[int, ...]:
        """Token ids of a conversation: messages, tools and documents as templates take them."""
        return self._ids(self._templates.render(messages, tools, documents), specials=False)

    def detokenizer(self) -> Detokenizer:
        """An incremental detokenizer at the beginning of an output."""
        return self._vocabulary.detokenizer() if self._vocabulary else NO_TEXT

    def _ids(self, text: str, *, specials: bool) -> tuple[int, ...]:
        if self._tokenizer is None:
            raise FailedPrecondition("prompt: the model has no tokenizer.json; send token ids")
        # As a batch of one: without offsets, which nobody needs, and off Python's lock.
        [encoding] = self._tokenizer.encode_batch_fast([text], add_special_tokens=specials)
        return tuple(encoding.ids)


def _load(content: bytes) -> Tokenizer:
    tokenizer = Tokenizer.from_str(content.decode())
    # Saved with the file by who trained with it: they would clip and pad prompts.
    tokenizer.no_truncation()
    tokenizer.no_padding()
    if resize := getattr(tokenizer.model, "_resize_cache", None):  # some have no cache
        resize(CACHED_WORDS)
    return tokenizer
