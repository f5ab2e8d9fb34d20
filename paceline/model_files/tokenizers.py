"""The files of a model's tokenizer, by their names alone."""

from pathlib import Path

TOKENIZER = "tokenizer.json"
SOURCES = (
    *("tokenizer.model", "spiece.model", "sentencepiece.bpe.model", "tekken.json"),
    *("*.tiktoken", "vocab.json", "vocab.txt"),
)
"""Files that hold a vocabulary that a tokenizer can be made of, as patterns."""


def has_tokenizer(folder: Path) -> bool:
    """Whether there is one, or what one is made of; without it a model has token ids alone."""
    return any(any(folder.glob(pattern)) for pattern in (TOKENIZER, *SOURCES))
