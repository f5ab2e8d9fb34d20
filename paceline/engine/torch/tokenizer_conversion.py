"""A tokenizer without tokenizer.json: SentencePiece, tiktoken or vocabulary and merges, converted.

transformers converts it when it loads such a folder, and what it made is served: the ids are those
of transformers, not in every case those of the library that wrote the file
(docs/decisions/vocabularies.md).
"""

import importlib.util
from pathlib import Path
from typing import Any

from transformers import AutoTokenizer, TokenizersBackend

from paceline.engine.torch.tokenizer_files import read_tokenizer
from paceline.errors import FailedPrecondition, in_a_line, shown
from paceline.model_files.tokenizers import SOURCES
from paceline.protocol.model import TokenizerFiles

_SAYS_ALL = "tekken.json"
"""The only one that needs no class to say how text is split."""


def make_tokenizer(folder: Path) -> TokenizerFiles | None:
    """The tokenizer that transformers makes of the folder's files; None where it has none.

    Raises FailedPrecondition naming the file where transformers makes none, or would only guess.
    """
    source = next((path.name for one in SOURCES for path in sorted(folder.glob(one))), None)
    if source is None:
        return None
    if source.endswith(".model") and importlib.util.find_spec("sentencepiece") is None:
        raise _refused(source, "the package sentencepiece is not installed")
    try:
        made: Any = AutoTokenizer.from_pretrained(folder)
    except Exception as error:
        raise _refused(source, in_a_line(error, kind=False)) from error
    if not isinstance(made, TokenizersBackend):
        raise _refused(source, f"{shown(type(made).__name__)} cannot be one")
    if type(made) is TokenizersBackend and source != _SAYS_ALL:
        raise _refused(source, "transformers has no class for it, and would guess at its rules")
    specials = made.special_tokens_map.items()
    named = {name: value for name, value in specials if isinstance(value, str)}
    return read_tokenizer(folder, made.backend_tokenizer.to_str().encode(), named)


def _refused(source: str, reason: str) -> FailedPrecondition:
    return FailedPrecondition(
        f"the tokenizer's {source} is not made into a tokenizer.json: {reason}; "
        "put a tokenizer.json beside it"
    )
