"""Tokenizers without tokenizer.json get the ids of transformers, or are refused in a line."""

import base64
import importlib
import importlib.util
import io
import json
from pathlib import Path
from typing import Any

import pytest
from tokenizers import Tokenizer, models, pre_tokenizers, trainers
from transformers import AutoTokenizer

from paceline.engine.torch.tokenizer_conversion import make_tokenizer
from paceline.errors import FailedPrecondition

TEXTS = (
    *("Hello world", " one space", "  two", "trailing ", " ", "", "a  b   c", "x"),
    *(
        "tabs\tand\nlines\n\n",
        "日本語 テキスト",
        "emoji 😀👍🏽",
        "Привет",
        "ﬁ ligature ①",
        "\u00a0nbsp",
    ),
    *("def f(x):\n    return x", "<0x0A>", "▁underscore", "I'm 123 4567", "\u200bzero"),
    *("<s>hello</s>", "<extra>hi<extra>", "hello <extra>  world", "<extra>"),
)
CORPUS = [*TEXTS, *("the quick brown fox jumps over the lazy dog. " * 3).split(". ")] * 4
LLAMA = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}
EXTRA = {"content": "<extra>", "special": True, "normalized": False}
MODEL_FILE = {
    **dict.fromkeys(("byte_fallback", "split_digits", "allow_whitespace_only_pieces"), True),
    **dict.fromkeys(("remove_extra_whitespaces", "hard_vocab_limit"), False),
    "normalization_rule_name": "identity",
    "vocab_size": 400,
    "minloglevel": 2,
    "model_type": "bpe",
    "unk_id": 0,
    "bos_id": 1,
    "eos_id": 2,
    "pad_id": -1,
}
needs_sentencepiece = pytest.mark.skipif(
    importlib.util.find_spec("sentencepiece") is None, reason="needs sentencepiece"
)


def configure(folder: Path, kind: str | None, model_type: str = "none", **fields: Any) -> Path:
    content = {"tokenizer_class": kind, "added_tokens_decoder": {"900": EXTRA}, **fields}
    (folder / "tokenizer_config.json").write_text(json.dumps(content))
    (folder / "config.json").write_text(json.dumps({"model_type": model_type}))
    return folder


def sentencepiece_model(path: Path, **fields: Any) -> None:
    sentencepiece = importlib.import_module("sentencepiece")

    written = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter([text for text in CORPUS if text.strip()]),
        model_writer=written,
        **{**MODEL_FILE, **fields},
    )
    path.write_bytes(written.getvalue())


def check(folder: Path) -> Tokenizer:
    """Ids and texts are those of transformers."""
    made, expected = make_tokenizer(folder), AutoTokenizer.from_pretrained(folder)
    assert made is not None
    tokenizer = Tokenizer.from_str(made.tokenizer_json.decode())
    for text in TEXTS:
        ids = tokenizer.encode(text).ids
        assert ids == expected.encode(text)
        assert tokenizer.decode(ids) == expected.decode(ids, skip_special_tokens=True)
    return tokenizer


@needs_sentencepiece
@pytest.mark.parametrize(
    ("kind", "fields", "trained"),
    [
        ("LlamaTokenizer", {"add_bos_token": True, **LLAMA}, {}),
        ("LlamaTokenizer", {"legacy": False, **LLAMA}, {}),
        ("LlamaTokenizerFast", {"add_prefix_space": False, **LLAMA}, {}),
        ("GemmaTokenizer", {}, {"add_dummy_prefix": False, "pad_id": 3}),
        ("T5Tokenizer", {}, {"model_type": "unigram", "byte_fallback": False}),
    ],
)
def test_sentencepiece(
    kind: str, fields: dict[str, Any], trained: dict[str, Any], tmp_path: Path
) -> None:
    sentencepiece_model(tmp_path / "tokenizer.model", **trained)
    check(configure(tmp_path, kind, "llama", **fields))


@needs_sentencepiece
def test_a_class_that_is_its_makers_own_is_refused(tmp_path: Path) -> None:
    sentencepiece_model(tmp_path / "tokenizer.model")
    refused = "transformers has no class for it, and would guess at its rules; put a tokenizer.json"
    with pytest.raises(FailedPrecondition, match=refused):
        make_tokenizer(configure(tmp_path, "InternLM2Tokenizer"))


@needs_sentencepiece
def test_template_names_of_the_class_are_known(tmp_path: Path) -> None:
    sentencepiece_model(tmp_path / "tokenizer.model")
    made = make_tokenizer(configure(tmp_path, "LlamaTokenizer", bos_token="<start>"))  # noqa: S106
    assert made is not None
    names = ("bos_token", "eos_token", "unk_token")
    assert [made.special_tokens[name] for name in names] == ["<start>", "</s>", "<unk>"]


def test_without_the_package_it_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "tokenizer.model").write_bytes(b"whatever")
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    with pytest.raises(FailedPrecondition) as caught:
        make_tokenizer(tmp_path)
    assert str(caught.value) == (
        "the tokenizer's tokenizer.model is not made into a tokenizer.json: the package "
        "sentencepiece is not installed; put a tokenizer.json beside it"
    )


def byte_pairs(folder: Path) -> None:
    """vocab.json and merges.txt, as GPT-2 has them."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=320, initial_alphabet=alphabet, show_progress=False)
    tokenizer.train_from_iterator(CORPUS, trainer)
    tokenizer.model.save(str(folder))


@pytest.mark.parametrize("kind", ["GPT2Tokenizer", "Qwen2Tokenizer", "GPT2TokenizerFast"])
def test_vocabulary_and_merges(kind: str, tmp_path: Path) -> None:
    byte_pairs(tmp_path)
    check(configure(tmp_path, kind))


def test_the_class_is_that_of_the_model_type_where_none_is_named(tmp_path: Path) -> None:
    """Qwen's splits each digit, GPT-2's takes them together."""
    byte_pairs(tmp_path)
    pieces = check(configure(tmp_path, None, "qwen2")).encode("12").tokens
    assert pieces == ["1", "2"]


def test_vocabulary_and_merges_of_nobodys_rules_are_refused(tmp_path: Path) -> None:
    byte_pairs(tmp_path)
    with pytest.raises(FailedPrecondition, match=r"tokenizer's vocab\.json is not made into a"):
        make_tokenizer(configure(tmp_path, "OwnTokenizer"))


def test_tiktoken_of_nobodys_rules_is_refused(tmp_path: Path) -> None:
    lines = (f"{base64.b64encode(bytes([byte])).decode()} {byte}\n" for byte in range(256))
    (tmp_path / "own.tiktoken").write_text("".join(lines))
    with pytest.raises(FailedPrecondition, match=r"tokenizer's own\.tiktoken is not made into a"):
        make_tokenizer(configure(tmp_path, "OwnTokenizer"))


def test_without_any_of_its_files_there_is_none(tmp_path: Path) -> None:
    assert make_tokenizer(tmp_path) is None
