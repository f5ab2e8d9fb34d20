"""Masks over tokenizers of other kinds: what they leave decodes to text of the language."""

import json
from pathlib import Path
from tempfile import TemporaryDirectory

import gguf
import numpy as np
import pytest
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers

from paceline.engine.grammar import Grammars
from paceline.engine.torch.gguf.gguf_file import open_gguf
from paceline.engine.torch.gguf.tokenizer import make_tokenizer
from paceline.engine.torch.gguf.vocabulary import read_vocabulary
from paceline.protocol.constraint import Constraint, ConstraintKind, json_schema
from tests.gguf_files import Fill, byte_level_vocabulary
from tests.gguf_files import write as write_file
from tests.tiny_models import byte_tokenizer

WORDS = ("é 😀", "yes sir", "no")
CHOICE = Constraint(ConstraintKind.CHOICE, options=WORDS)
SCHEMA = json_schema({"type": "array", "items": {"type": "string", "maxLength": 4}, "maxItems": 3})
PADDING = 37
UNKNOWN = "<unk>"
NORMAL, UNKNOWN_TYPE, CONTROL, BYTE = 1, 2, 3, 6


def sentencepiece() -> Tokenizer:
    """As Llama's converted tokenizer: a marker for blanks, bytes for what no piece has."""
    pieces = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256))]
    pieces += ["▁", "y", "e", "s", "i", "r", "n", "o", "ye", "yes", "▁s", "▁si", "▁sir", "no"]
    merges = [("y", "e"), ("ye", "s"), ("▁", "s"), ("▁s", "i"), ("▁si", "r"), ("n", "o")]
    vocabulary = {piece: index for index, piece in enumerate(pieces)}
    tokenizer = Tokenizer(
        models.BPE(vocabulary, merges, unk_token=UNKNOWN, fuse_unk=True, byte_fallback=True)
    )
    tokenizer.normalizer = normalizers.Replace(" ", "▁")
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()]
    )
    tokenizer.add_special_tokens(["<unk>", "<s>", "</s>"])
    return tokenizer


def byte_level() -> Tokenizer:
    """As GPT's, with merged tokens, and added tokens that are text."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    merges = [("y", "e"), ("ye", "s"), ("Ġ", "s"), ("n", "o"), ("Ã", "©")]
    pieces = [*alphabet, *("".join(pair) for pair in merges)]
    tokenizer = Tokenizer(models.BPE({one: i for i, one in enumerate(pieces)}, merges))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_tokens([" sir", '["'])
    tokenizer.add_special_tokens(["<|eos|>", "<|tool|>"])
    return tokenizer


def of_gguf(fill: Fill) -> Tokenizer:
    """As a model that was loaded from a GGUF file has it on disk."""
    with TemporaryDirectory() as folder:
        writer = gguf.GGUFWriter(Path(folder) / "vocabulary.gguf", "llama")
        fill(writer)
        write_file(writer)
        source = open_gguf(Path(folder) / "vocabulary.gguf")
        vocabulary = read_vocabulary(source)
        assert vocabulary is not None
        make_tokenizer(source, vocabulary).save_pretrained(folder)
        return Tokenizer.from_file(str(Path(folder) / "tokenizer.json"))


def gguf_byte_level(writer: gguf.GGUFWriter) -> None:
    special = {"<|eos|>": CONTROL, "<|tool|>": CONTROL}
    byte_level_vocabulary(writer, ["y|e", "ye|s", " |s", "n|o"], special)


def gguf_sentencepiece(writer: gguf.GGUFWriter) -> None:
    words = ["▁", "y", "e", "s", "i", "r", "n", "o", "ye", "yes", "▁s", "▁si", "▁sir", "no"]
    tokens = [UNKNOWN, "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256)), *words]
    writer.add_tokenizer_model("llama")
    writer.add_token_list(tokens)
    writer.add_token_scores([0.0] * 259 + [-9.0] * 8 + [-float(rank) for rank in range(1, 7)])
    writer.add_token_types([UNKNOWN_TYPE, CONTROL, CONTROL] + [BYTE] * 256 + [NORMAL] * len(words))
    writer.add_add_space_prefix(False)


TOKENIZERS = {
    "bytes": (byte_tokenizer(), "<|eos|>"),
    "byte level": (byte_level(), "<|eos|>"),
    "sentencepiece": (sentencepiece(), "</s>"),
    "byte level of GGUF": (of_gguf(gguf_byte_level), "<|eos|>"),
    "sentencepiece of GGUF": (of_gguf(gguf_sentencepiece), "</s>"),
}


def compiled(name: str) -> tuple[Grammars, Tokenizer, int]:
    tokenizer, end = TOKENIZERS[name]
    eos = tokenizer.token_to_id(end)
    assert eos is not None
    size = tokenizer.get_vocab_size() + PADDING
    return Grammars(tokenizer.to_str().encode(), size, (eos,)), tokenizer, eos


def write(name: str, constraint: Constraint, seed: int) -> str:
    """The text of a random output; asserts that nothing special and no padding may come."""
    grammars, tokenizer, eos = compiled(name)
    special = [i for i, token in tokenizer.get_added_tokens_decoder().items() if token.special]
    matcher, rng = grammars.compile(constraint).matcher(), np.random.default_rng(seed)
    output = list[int]()
    while True:
        mask = matcher.mask()
        assert mask is not None
        assert not mask[tokenizer.get_vocab_size() :].any()
        assert not any(mask[one] for one in special if one != eos)
        token = int(rng.choice(np.flatnonzero(mask)))
        if token == eos:
            return str(tokenizer.decode(output, skip_special_tokens=False))
        output.append(token)
        matcher.append(token)


@pytest.mark.parametrize("name", TOKENIZERS)
def test_outputs_decode_to_the_words_and_to_all_of_them(name: str) -> None:
    assert {write(name, CHOICE, seed) for seed in range(40)} == set(WORDS)


@pytest.mark.parametrize("name", TOKENIZERS)
def test_outputs_decode_to_json_of_the_schema(name: str) -> None:
    for seed in range(15):
        value = json.loads(write(name, SCHEMA, seed))
        assert len(value) <= 3
        assert all(isinstance(one, str) and len(one) <= 4 for one in value)


@pytest.mark.parametrize("name", TOKENIZERS)
def test_what_the_tokenizer_makes_of_a_word_may_come(name: str) -> None:
    grammars, tokenizer, eos = compiled(name)
    for word in WORDS:
        matcher = grammars.compile(CHOICE).matcher()
        for token in tokenizer.encode(word, add_special_tokens=False).ids:
            mask = matcher.mask()
            assert mask is not None
            assert mask[token], word
            matcher.append(token)
        mask = matcher.mask()
        assert mask is not None
        assert mask[eos]
