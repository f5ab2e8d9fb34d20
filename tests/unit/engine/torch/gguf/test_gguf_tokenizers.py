"""Tokenizers built from GGUF metadata split as the models' own do."""

import json
import unicodedata
from pathlib import Path
from typing import Any

import gguf
import pytest
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from paceline.catalog import is_current
from paceline.engine.torch.gguf.gguf_file import open_gguf
from paceline.engine.torch.gguf.pretokenizers import BY_NAME
from paceline.engine.torch.gguf.repair import repair_folder
from paceline.engine.torch.gguf.tokenizer import make_tokenizer
from paceline.engine.torch.gguf.vocabulary import read_vocabulary
from paceline.errors import FailedPrecondition
from tests.gguf_files import Fill, byte_level_vocabulary, letters, write

CONTROL, USER, UNUSED, BYTE = 3, 4, 5, 6


def vocabulary_file(folder: Path, fill: Fill, architecture: str = "llama") -> Path:
    """A file of a vocabulary only."""
    writer = gguf.GGUFWriter(folder / "vocabulary.gguf", architecture)
    fill(writer)
    write(writer)
    return folder / "vocabulary.gguf"


def tokenizer(file: Path) -> PreTrainedTokenizerFast:
    """The tokenizer of a file."""
    source = open_gguf(file)
    vocabulary = read_vocabulary(source)
    assert vocabulary is not None
    return make_tokenizer(source, vocabulary)


def pieces(pre: str, text: str, tmp_path: Path) -> list[str]:
    """How `pre` splits a text before anything is merged."""
    file = vocabulary_file(tmp_path, lambda w: byte_level_vocabulary(w, pre=pre))
    backend = tokenizer(file).backend_tokenizer
    split = backend.pre_tokenizer.pre_tokenize_str(text)
    return [piece for piece, _ in split]


SPLITS = [  # as llama.cpp's reference ids of these vocabularies show
    ("qwen2", "\n\n1.a 12", ["\n\n", "1", ".a", " ", "1", "2"]),
    ("llama-bpe", "It's 1234 \n x", ["It", "'s", " ", "123", "4", " \n", " x"]),
    ("smollm", "\n\n1. a12", ["\n\n", "1", ".", " a", "1", "2"]),
    ("gpt-2", "\n\n1. a12", ["\n", "\n", "1", ".", " a", "12"]),
    ("deepseek-llm", "a\nb 12", ["a", "\n", "b", " ", "1", "2"]),
    ("deepseek-coder", "a\nb 12", ["a", "\n", "b", " ", "1", "2"]),
    ("deepseek-v3", "ab 1234 c", ["ab", " ", "123", "4", " c"]),
    ("falcon", "a 12345!", ["a", " ", "123", "45", "!"]),
    ("command-r", "a 12", ["a", " ", "1", "2"]),
    ("tekken", "HelloWorld12", ["Hello", "World", "1", "2"]),
    ("gpt-4o", "HelloWorld's 1234", ["Hello", "World's", " ", "123", "4"]),
    ("bloom", "a b,c", ["a", " b", ",", "c"]),
    ("viking", "a 12", ["a", " ", "1", "2"]),
    ("seed-coder", "It's a12 !\n\nx", ["It", "'s", " a", "1", "2", " !", "\n\n", "x"]),
    ("midm-2.0", "a 1234", ["a", " ", "123", "4"]),
    ("mellum", "\n\n1. a12", ["\n", "\n", "1", ".", " a", "12"]),
    ("default", "a 1234", ["a", " 1234"]),
]


@pytest.mark.parametrize(("pre", "text", "expected"), SPLITS)
def test_text_is_split_by_the_models_own_rules(
    pre: str, text: str, expected: list[str], tmp_path: Path
) -> None:
    found = pieces(pre, text, tmp_path)
    if pre != "default":
        assert found == [letters(piece) for piece in expected]
    assert "".join(found) == letters(text)


def test_every_known_rule_compiles_and_loses_nothing(tmp_path: Path) -> None:
    text = "It's 12345 caf\u00e9\u4e2d\u6587 \u041f\u0440\u0438\u0432\u0435\u0442!\n\n\t x"
    for pre in BY_NAME:
        assert "".join(pieces(pre, text, tmp_path)) == letters(text), pre


@pytest.mark.parametrize("pre", ["qwen2", "qwen35", "command-r", "mpt"])
def test_decomposed_letters_are_composed(pre: str, tmp_path: Path) -> None:
    file = vocabulary_file(tmp_path, lambda w: byte_level_vocabulary(w, pre=pre))
    composed = "caf\u00e9 na\u00efve \u00dcn\u00ef"
    made = tokenizer(file)
    assert made.encode(unicodedata.normalize("NFD", composed)) == made.encode(composed)


def test_llama_3_takes_whole_words_that_no_merge_makes_and_begins_with_bos(tmp_path: Path) -> None:
    def fill(writer: gguf.GGUFWriter) -> None:
        tokens = byte_level_vocabulary(
            writer, special={"abc": 1, "<|bos|>": CONTROL}, pre="llama-bpe"
        )
        writer.add_bos_token_id(len(tokens) - 1)

    assert tokenizer(vocabulary_file(tmp_path, fill)).encode("abc") == [257, 256]


@pytest.mark.parametrize(
    ("pre", "add", "begins"),
    [("qwen2", None, False), ("qwen2", True, True), ("tekken", False, False)],
)
def test_bos_is_added_as_the_file_says_else_as_the_family_does(
    pre: str, add: bool | None, begins: bool, tmp_path: Path
) -> None:
    def fill(writer: gguf.GGUFWriter) -> None:
        byte_level_vocabulary(writer, special={"<|bos|>": CONTROL}, pre=pre)
        writer.add_bos_token_id(256)
        if add is not None:
            writer.add_add_bos_token(add)

    assert (tokenizer(vocabulary_file(tmp_path, fill)).encode("a")[0] == 256) is begins


def test_added_tokens_are_special_by_their_type_and_padding_is_none(tmp_path: Path) -> None:
    special = {"<|im_end|>": CONTROL, "<tool_call>": USER, "[PAD258]": UNUSED, "[PAD259]": USER}
    file = vocabulary_file(tmp_path, lambda w: byte_level_vocabulary(w, special=special))
    made = tokenizer(file)
    assert made.encode("<|im_end|><tool_call>") == [256, 257]
    assert made.decode([256, 257], skip_special_tokens=True) == "<tool_call>"
    assert len(made) == 258


@pytest.mark.parametrize(
    ("special", "named", "expected"),
    [
        ({"<|end|>": CONTROL, "<|x|>": CONTROL}, "<|x|>", ["<|end|>", "<|x|>"]),
        ({"<|im_end|>": CONTROL, "<|x|>": 1}, "<|im_end|>", ["<|im_end|>"]),
        ({"<|endoftext|>": 1, "<|x|>": CONTROL}, "<|x|>", ["<|endoftext|>", "<|x|>"]),
        ({"<|end|>": CONTROL, "<|return|>": CONTROL, "<|call|>": CONTROL}, "<|return|>",
         ["<|return|>", "<|call|>"]),
        ({"<|eom_id|>": CONTROL, "<end_of_utterance>": USER}, None,
         ["<|eom_id|>", "<end_of_utterance>"]),
    ],
)  # fmt: skip
def test_end_tokens_are_those_the_vocabulary_has(
    special: dict[str, int], named: str | None, expected: list[str], tmp_path: Path
) -> None:
    def fill(writer: gguf.GGUFWriter) -> None:
        tokens = byte_level_vocabulary(writer, special=special)
        writer.add_eos_token_id(tokens.index(named) if named else 999999)

    vocabulary = read_vocabulary(open_gguf(vocabulary_file(tmp_path, fill)))
    assert vocabulary is not None
    assert [vocabulary.tokens[index] for index in vocabulary.ends()] == expected


def test_eot_and_eom_end_too(tmp_path: Path) -> None:
    def fill(writer: gguf.GGUFWriter) -> None:
        byte_level_vocabulary(writer, special={"<a>": CONTROL, "<b>": CONTROL, "<c>": CONTROL})
        writer.add_eos_token_id(256)
        writer.add_eot_token_id(257)
        writer.add_uint32("tokenizer.ggml.eom_token_id", 258)

    vocabulary = read_vocabulary(open_gguf(vocabulary_file(tmp_path, fill)))
    assert vocabulary is not None
    assert vocabulary.ends() == [256, 257, 258]


def sentencepiece(writer: gguf.GGUFWriter, *, roles: bool = True) -> None:
    """RowPieces with scores, bytes for what is left."""
    words = ["\u2581", "a", "b", "ab", "\u2581ab", "c"]
    tokens = ["<unk>", "<s>", "<|end|>", *(f"<0x{byte:02X}>" for byte in range(256)), *words]
    writer.add_tokenizer_model("llama")
    writer.add_token_list(tokens)
    writer.add_token_scores([0.0] * 259 + [-5.0, -4.0, -4.0, -1.0, -2.0, -4.0])
    writer.add_token_types([2, CONTROL, CONTROL] + [BYTE] * 256 + [1] * len(words))
    if roles:
        writer.add_bos_token_id(1)
        writer.add_unk_token_id(0)


def test_sentencepiece_has_roles_of_its_own_where_a_file_says_none(tmp_path: Path) -> None:
    file = vocabulary_file(tmp_path, lambda writer: sentencepiece(writer, roles=False))
    made = tokenizer(file)
    assert made.convert_ids_to_tokens(made.encode("ab")) == ["<s>", "\u2581ab"]
    vocabulary = read_vocabulary(open_gguf(file))
    assert vocabulary is not None
    assert vocabulary.ends() == [2]


def test_sentencepiece_merges_by_scores_and_falls_back_to_bytes(tmp_path: Path) -> None:
    made = tokenizer(vocabulary_file(tmp_path, sentencepiece))
    assert made.convert_ids_to_tokens(made.encode("abc ab\u00e9")) == [
        "<s>", "\u2581ab", "c", "\u2581ab", "<0xC3>", "<0xA9>",
    ]  # fmt: skip
    assert made.decode(made.encode("abc ab\u00e9"), skip_special_tokens=True) == "abc ab\u00e9"


def few_types(writer: gguf.GGUFWriter) -> None:
    """Fewer types than tokens."""
    writer.add_tokenizer_model("gpt2")
    writer.add_token_list(["a", "b"])
    writer.add_token_types([1])


def test_a_space_is_prefixed_unless_the_file_says_no(tmp_path: Path) -> None:
    def fill(writer: gguf.GGUFWriter) -> None:
        sentencepiece(writer)
        writer.add_add_space_prefix(False)

    made = tokenizer(vocabulary_file(tmp_path, fill))
    assert made.convert_ids_to_tokens(made.encode("ab")) == ["<s>", "ab"]


def test_phi_3_swallows_blanks_behind_control_tokens(tmp_path: Path) -> None:
    made = tokenizer(vocabulary_file(tmp_path, sentencepiece, "phi3"))
    assert made.encode("<|end|>\n ab") == made.encode("<|end|>ab")


@pytest.mark.parametrize(
    ("fill", "named"),
    [
        (lambda w: byte_level_vocabulary(w, pre="made-up"), "pre 'made-up'"),
        (lambda w: (w.add_tokenizer_model("bert"), w.add_token_list(["a"]))[0], "'bert'"),
        (lambda w: (w.add_tokenizer_model("t5"), w.add_token_list(["a"]))[0], "'t5'"),
        (lambda w: (w.add_tokenizer_model("llama"), w.add_token_list(["a"]))[0], "scores"),
        (few_types, "token_type has 1 entries"),
        (lambda w: (byte_level_vocabulary(w), w.add_token_merges(["ab"]))[0], "merges has 'ab'"),
    ],
)
def test_an_unknown_tokenizer_is_refused_by_name(fill: Fill, named: str, tmp_path: Path) -> None:
    with pytest.raises(FailedPrecondition, match=named):
        tokenizer(vocabulary_file(tmp_path, fill))


def test_chat_templates_are_kept_by_name(tmp_path: Path) -> None:
    def fill(writer: gguf.GGUFWriter) -> None:
        byte_level_vocabulary(writer)
        writer.add_chat_template(
            [{"name": "default", "template": "one"}, {"name": "tool_use", "template": "two"}]
        )

    made = tokenizer(vocabulary_file(tmp_path, fill))
    made.save_pretrained(tmp_path / "saved")
    again: Any = AutoTokenizer.from_pretrained(tmp_path / "saved")
    assert again.chat_template == {"default": "one", "tool_use": "two"}


def test_an_older_folder_gets_the_right_tokenizer_and_keeps_its_ids(tmp_path: Path) -> None:
    special = {"<|im_end|>": CONTROL, "<tool_call>": USER}
    merges = ["\n|\n", "a|b"]
    file = vocabulary_file(tmp_path, lambda w: byte_level_vocabulary(w, merges, special, "smollm"))
    right = tokenizer(file)
    right.save_pretrained(tmp_path / "folder")
    path = tmp_path / "folder" / "tokenizer.json"
    content = json.loads(path.read_text())
    content["pre_tokenizer"] = {"type": "ByteLevel", "add_prefix_space": False,
                                "trim_offsets": True, "use_regex": True}  # fmt: skip
    path.write_text(json.dumps(content))
    config = {"model_type": "llama", "vocab_size": 260}
    (tmp_path / "folder" / "config.json").write_text(json.dumps(config))
    repair_folder(tmp_path / "folder", "smollm")
    again = AutoTokenizer.from_pretrained(tmp_path / "folder")
    text = "ab\n\n12<tool_call><|im_end|>"
    assert again.encode(text) == right.encode(text) != []
    assert is_current(tmp_path / "folder")
    found = json.loads((tmp_path / "folder" / "config.json").read_text())
    assert found["architectures"] == ["LlamaForCausalLM"]
