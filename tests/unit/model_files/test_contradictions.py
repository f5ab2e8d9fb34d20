"""A config that fits neither itself nor what lies beside it is found without loading anything."""

import json
from pathlib import Path
from typing import Any

import pytest

from paceline.errors import FailedPrecondition
from paceline.model_files.check import check_model
from paceline.model_files.contradictions import DoesNotFit
from paceline.model_files.gguf_metadata import Length, check_metadata_fits
from tests.model_folders import model_folder_of, write_json, write_tensors

CONFIG = {
    "vocab_size": 32,
    "hidden_size": 8,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "intermediate_size": 12,
}
LAYER = {
    "self_attn.q_proj.weight": (8, 8),
    "self_attn.k_proj.weight": (4, 8),
    "mlp.up_proj.weight": (12, 8),
}
SHAPES = {"model.embed_tokens.weight": (32, 8)} | {
    f"model.layers.{layer}.{name}": shape for layer in range(2) for name, shape in LAYER.items()
}
OF_EMBEDDING = "model.embed_tokens.weight has shape [32, 8]"
OF_QUERIES = "model.layers.0.self_attn.q_proj.weight has shape [8, 8]"
OF_KEYS = "model.layers.0.self_attn.k_proj.weight has shape [4, 8]"
OF_NEURONS = "model.layers.0.mlp.up_proj.weight has shape [12, 8]"


def folder_of(folder: Path, **config: Any) -> Path:
    """A model whose weights have the shapes that CONFIG says; config: what is otherwise."""
    model_folder_of(folder, **{**CONFIG, **config})
    write_json(folder / "tokenizer.json", {"model": {"type": "BPE", "vocab": {"a": 0, "b": 31}}})
    write_tensors(folder / "model.safetensors", SHAPES)
    return folder


def said(folder: Path) -> str:
    with pytest.raises(FailedPrecondition) as caught:
        check_model(str(folder))
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_model_that_fits_passes(tmp_path: Path) -> None:
    folder = folder_of(tmp_path / "model")
    assert check_model(str(folder)) == folder


WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "width and heads": (
        {"hidden_size": 9},
        "hidden_size is 9; it must be a multiple of num_attention_heads, 4, where head_dim is "
        "not given",
    ),
    "groups of heads": (
        {"num_key_value_heads": 3},
        "num_key_value_heads is 3; it must be a divisor of num_attention_heads, 4",
    ),
    "more groups than heads": (
        {"num_key_value_heads": 8},
        "num_key_value_heads is 8; it must be a divisor of num_attention_heads, 4",
    ),
    "width": ({"hidden_size": 16}, f"hidden_size is 16; it must be 8, as {OF_EMBEDDING}"),
    "vocabulary": ({"vocab_size": 31}, f"vocab_size is 31; it must be 32, as {OF_EMBEDDING}"),
    "too few layers": (
        {"num_hidden_layers": 1},
        "num_hidden_layers is 1; it must be 2, as there are weights of so many layers",
    ),
    "too many layers": (
        {"num_hidden_layers": 3},
        "num_hidden_layers is 3; it must be 2, as there are weights of so many layers",
    ),
    "heads": (
        {"num_attention_heads": 2, "head_dim": 2},
        f"num_attention_heads is 2; it must be 4 with heads of 2, as {OF_QUERIES}",
    ),
    "width of heads": (
        {"head_dim": 3},
        f"num_attention_heads is 4; it must be 8 / 3 with heads of 3, as {OF_QUERIES}",
    ),
    "heads of keys": (
        {"num_key_value_heads": 1},
        f"num_key_value_heads is 1; it must be 2 with heads of 2, as {OF_KEYS}",
    ),
    "neurons": (
        {"intermediate_size": 16},
        f"intermediate_size is 16; it must be 12, as {OF_NEURONS}",
    ),
    "an output of its own": (
        {"tie_word_embeddings": False},
        "tie_word_embeddings is False; it must be True, as there is no lm_head.weight",
    ),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_does_not_fit(case: str, tmp_path: Path) -> None:
    config, message = WRONG[case]
    folder = folder_of(tmp_path / "model", **config)
    assert said(folder) == f"{folder}/config.json does not fit: {message}"


def test_a_tokenizer_of_another_model(tmp_path: Path) -> None:
    folder = folder_of(tmp_path / "model")
    for vocabulary in ({"a": 0, "b": 40}, [["a", 0.1]] * 41):
        write_json(folder / "tokenizer.json", {"model": {"vocab": vocabulary}})
        assert said(folder) == (
            f"{folder}/config.json does not fit: vocab_size is 32; it must be at least 41, as "
            "tokenizer.json has an id 40"
        )


def test_a_vocabulary_of_a_wrong_type(tmp_path: Path) -> None:
    folder = folder_of(tmp_path / "model")
    write_json(folder / "tokenizer.json", {"model": {"vocab": {"a": "b"}}})
    assert said(folder) == (
        f"{folder}/tokenizer.json cannot be read: model.vocab.a is 'b'; it must be a whole number"
    )


def test_tokens_added_beyond_the_vocabulary_are_left_to_who_uses_them(tmp_path: Path) -> None:
    folder = folder_of(tmp_path / "model")
    tokenizer = {"model": {"vocab": {"a": 0}}, "added_tokens": [{"id": 32, "content": "<pad>"}]}
    write_json(folder / "tokenizer.json", tokenizer)
    assert check_model(str(folder)) == folder


def test_an_output_of_another_size(tmp_path: Path) -> None:
    folder = folder_of(tmp_path / "model", tie_word_embeddings=False)
    write_tensors(folder / "model.safetensors", {**SHAPES, "lm_head.weight": (30, 8)})
    assert said(folder) == (
        f"{folder}/config.json does not fit: vocab_size is 32; it must be 30, as lm_head.weight "
        "has shape [30, 8]"
    )


def test_the_text_part_of_a_model_with_others(tmp_path: Path) -> None:
    text = {**CONFIG, "hidden_size": 16, "model_type": "gemma3_text"}
    folder = folder_of(tmp_path / "model", model_type="gemma3", text_config=text)
    images = {"vision_tower.layers.7.mlp.up_proj.weight": (3, 3)}
    renamed = {f"language_model.{name}": shape for name, shape in SHAPES.items()}
    write_tensors(folder / "model.safetensors", {**images, **renamed})
    assert said(folder) == (
        f"{folder}/config.json does not fit: text_config.hidden_size is 16; it must be 8, as "
        f"language_model.{OF_EMBEDDING}"
    )


def test_layers_that_predict_further_tokens_are_none_of_the_models(tmp_path: Path) -> None:
    folder = folder_of(tmp_path / "model", model_type="glm4_moe")
    more = {"model.layers.2.eh_proj.weight": (8, 16), "model.layers.2.mlp.up_proj.weight": (9, 8)}
    write_tensors(folder / "model.safetensors", {**SHAPES, **more})
    assert check_model(str(folder)) == folder


def test_families_that_state_sizes_otherwise_are_left_to_who_loads_them(tmp_path: Path) -> None:
    folder = folder_of(tmp_path / "model", model_type="glm4_moe", intermediate_size=99)
    assert check_model(str(folder)) == folder
    write_tensors(folder / "model.safetensors", {"something.else": (3,)})
    assert check_model(str(folder)) == folder


@pytest.mark.parametrize(
    ("field", "value", "limit"),
    [
        ("num_attention_heads", "4", "a whole number"),
        ("intermediate_size", "12", "a whole number"),
        ("head_dim", 2.5, "a whole number"),
        ("rms_norm_eps", "1e-5", "a number"),
        ("tie_word_embeddings", "true", "yes or no"),
        ("hidden_act", 3, "a text"),
        ("rope_parameters", [], "a mapping"),
        ("rope_scaling", "linear", "a mapping"),
        ("text_config", [], "an object"),
        ("architectures", "LlamaForCausalLM", "a list"),
    ],
)
def test_wrong_types(field: str, value: object, limit: str, tmp_path: Path) -> None:
    folder = folder_of(tmp_path / "model", **{field: value})
    assert said(folder) == (
        f"{folder}/config.json cannot be read: {field} is {value!r}; it must be {limit}"
    )


def test_sizes_of_the_text_part_are_at_least_one(tmp_path: Path) -> None:
    folder = folder_of(tmp_path / "model", text_config={"num_attention_heads": 0})
    assert said(folder) == (
        f"{folder}/config.json cannot be read: text_config.num_attention_heads is 0; it must be "
        "at least 1"
    )


METADATA: dict[str, Any] = {
    "general.architecture": "llama",
    "llama.embedding_length": 8,
    "llama.block_count": 1,
    "llama.attention.head_count": 4,
    "llama.attention.head_count_kv": 2,
    "llama.feed_forward_length": 12,
    "tokenizer.ggml.tokens": Length(32),
}
GGUF = {"token_embd.weight": (8, 32), "blk.0.ffn_up.weight": (8, 12)}


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        (
            "llama.embedding_length",
            9,
            "llama.embedding_length is 9; it must be 8, as token_embd.weight has 32 rows of 8",
        ),
        (
            "llama.block_count",
            2,
            "llama.block_count is 2; it must be 1, as there are weights of so many layers",
        ),
        (
            "llama.attention.head_count_kv",
            3,
            "llama.attention.head_count_kv is 3; it must be a divisor of "
            "llama.attention.head_count, 4",
        ),
        (
            "llama.feed_forward_length",
            16,
            "llama.feed_forward_length is 16; it must be 12, as blk.0.ffn_up.weight has 12 rows",
        ),
        (
            "tokenizer.ggml.tokens",
            Length(33),
            "the length of tokenizer.ggml.tokens is 33; it must be at most 32, as "
            "token_embd.weight has 32 rows of 8",
        ),
    ],
)
def test_metadata_of_gguf(key: str, value: object, message: str) -> None:
    check_metadata_fits(Path("a.gguf"), METADATA, GGUF)
    with pytest.raises(DoesNotFit) as caught:
        check_metadata_fits(Path("a.gguf"), {**METADATA, key: value}, GGUF)
    assert str(caught.value) == f"a.gguf does not fit: {message}"


def test_a_cached_model_that_does_not_fit_is_refused_and_not_fetched_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    constants = pytest.importorskip("huggingface_hub.constants")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    repository = tmp_path / "models--us--model"
    folder = folder_of(repository / "snapshots" / "abc", vocab_size=31)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text("abc")
    with pytest.raises(DoesNotFit, match="vocab_size is 31; it must be 32"):
        check_model("us/model")
    assert json.loads((folder / "config.json").read_text())["vocab_size"] == 31
