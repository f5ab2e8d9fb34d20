"""A model's vocabulary as its GGUF metadata lists it."""

from dataclasses import dataclass
from enum import IntEnum

from paceline.engine.torch.gguf.gguf_file import GGUFFile
from paceline.errors import FailedPrecondition


class TokenType(IntEnum):
    """`tokenizer.ggml.token_type`."""

    NORMAL = 1
    UNKNOWN = 2
    CONTROL = 3
    USER_DEFINED = 4
    UNUSED = 5
    BYTE = 6


ENDS = (  # as in llama.cpp, whatever the file names as its end token
    "<|eot_id|>",
    "<|im_end|>",
    "<|end|>",
    "<|return|>",
    "<|call|>",
    "<|flush|>",
    "<|calls|>",
    "<end_of_turn>",
    "<|endoftext|>",
    "</s>",
    "<|eom_id|>",
    "<EOT>",
    "_<EOT>",
    "[EOT]",
    "[EOS]",
    "<|end_of_text|>",
    "<end_of_utterance>",
    "<eos>",
    "<\uff5cend\u2581of\u2581sentence\uff5c>",
)
_OF_SENTENCEPIECE = {"bos": 1, "eos": 2, "unk": 0}
"""Ids of sentencepiece where a file names none, as in llama.cpp."""
_HARMONY = {"<|return|>", "<|call|>"}


@dataclass(frozen=True, slots=True)
class GGUFVocabulary:
    """Tokens by id, their kinds, and the ids that mean something."""

    tokens: list[str]
    types: list[int]
    ids: dict[str, int]

    def token(self, role: str) -> str | None:
        """The text of the token in a role such as bos; None without one."""
        found = self.ids.get(role)
        return None if found is None else self.tokens[found]

    def ends(self) -> list[int]:
        """The ids that end a turn, all of them within the vocabulary."""
        known = {token: index for index, token in enumerate(self.tokens) if token in ENDS}
        if known.keys() >= _HARMONY:  # there <|end|> only ends a message, and others follow
            known.pop("<|end|>", None)
        named = [self.ids[role] for role in ("eos", "eot", "eom") if role in self.ids]
        return sorted({*named, *known.values()})

    def is_padding(self, index: int) -> bool:
        """Whether a row of the embedding has only a made-up name."""
        return self.tokens[index] == f"[PAD{index}]"


def read_vocabulary(source: GGUFFile) -> GGUFVocabulary | None:
    """The vocabulary of a file; None where it has none."""
    tokens = source.get("tokenizer.ggml.tokens")
    if not tokens:
        return None
    types = source.get("tokenizer.ggml.token_type") or [int(TokenType.NORMAL)] * len(tokens)
    if len(types) != len(tokens):
        raise FailedPrecondition(
            f"tokenizer.ggml.token_type has {len(types)} entries for {len(tokens)} tokens"
        )
    kinds = [
        # As llama.cpp: files that call such a token an ordinary one are wrong.
        int(TokenType.CONTROL) if token in ENDS else int(kind)
        for token, kind in zip(tokens, types, strict=True)
    ]
    return GGUFVocabulary(list(tokens), kinds, _roles(source, len(tokens)))


def _roles(source: GGUFFile, size: int) -> dict[str, int]:
    """The ids of tokens with a role. Ids beyond the vocabulary stand for no token."""
    names = {"unk": "unknown", "pad": "padding"}
    unsaid = _OF_SENTENCEPIECE if source.get("tokenizer.ggml.model") == "llama" else {}
    roles = {}
    for role in ("bos", "eos", "eot", "eom", "unk", "pad"):
        key = f"tokenizer.ggml.{names.get(role, role)}_token_id"
        found = source.get(key, unsaid.get(role))
        if found is not None and not isinstance(found, int):
            raise FailedPrecondition(f"{key} is of type {type(found).__name__}, not an id")
        if found is not None and 0 <= found < size:
            roles[role] = found
    return roles
