"""Folders whose weights are not those of their model, or no weights at all: refused in a line."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from paceline.engine.torch.loading import load_model
from paceline.errors import FailedPrecondition
from tests.tiny_models import tiny_model

Q_PROJ = "model.layers.1.self_attn.q_proj.weight"
WEIGHTS = "model.safetensors"
Change = Callable[[dict[str, Tensor]], None]


def changed(folder: Path, change: Change, family: str = "llama") -> Path:
    tiny_model(folder, family)
    tensors = load_file(folder / WEIGHTS)
    change(tensors)
    save_file(tensors, folder / WEIGHTS, metadata={"format": "pt"})
    return folder


def configured(folder: Path, **fields: object) -> Path:
    tiny_model(folder)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, **fields}))
    return folder


def drop(*names: str) -> Change:
    def change(tensors: dict[str, Tensor]) -> None:
        for name in names:
            del tensors[name]

    return change


def rename(tensors: dict[str, Tensor]) -> None:
    tensors["model.layers.1.self_attn.wq.weight"] = tensors.pop(Q_PROJ)


def shorten(tensors: dict[str, Tensor]) -> None:
    tensors[Q_PROJ] = tensors[Q_PROJ][:32].clone()


def no_numbers(tensors: dict[str, Tensor]) -> None:
    tensors[Q_PROJ] = torch.full_like(tensors[Q_PROJ], torch.nan)


def add(name: str) -> Change:
    def change(tensors: dict[str, Tensor]) -> None:
        tensors[name] = torch.ones(64, dtype=torch.float64)

    return change


REFUSED: dict[str, tuple[Change, str]] = {
    "a projection": (drop(Q_PROJ), f"the weights lack tensors: {Q_PROJ}"),
    "a head": (drop("lm_head.weight"), "the weights lack tensors: lm_head.weight"),
    "a norm": (drop("model.norm.weight"), "the weights lack tensors: model.norm.weight"),
    "renamed": (rename, f"the weights lack tensors: {Q_PROJ}"),
    "shape": (shorten, f"the weights do not fit: {Q_PROJ} has shape (32, 64) instead of (64, 64)"),
    "a bias": (
        add("model.layers.0.self_attn.q_proj.bias"),
        "the weights have tensors that the model has no place for: "
        "model.layers.0.self_attn.q_proj.bias",
    ),
    "a layer": (
        add("model.layers.2.input_layernorm.weight"),
        "the weights have tensors that the model has no place for: "
        "model.layers.2.input_layernorm.weight",
    ),
    **{
        name: (add(name), f"the weights have tensors that the model has no place for: {name}")
        for name in (
            "model.layers.0.self_attn.q_norm.weight",
            "model.layers.1.post_feedforward_layernorm.weight",
            "model.layers.0.self_attn.q_proj.lora_A.weight",
            "model.embed_positions.weight",
            "model.embed_layernorm.weight",
            "lm_head.bias",
        )
    },
    "no numbers": (no_numbers, "are no numbers"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_weights_that_are_not_the_models_are_refused_by_name(case: str, tmp_path: Path) -> None:
    change, reason = REFUSED[case]
    with pytest.raises(FailedPrecondition) as caught:
        load_model(changed(tmp_path, change), torch.float64)
    assert reason in str(caught.value)
    assert "\n" not in str(caught.value)


def test_many_that_are_missing_are_counted(tmp_path: Path) -> None:
    def change(tensors: dict[str, Tensor]) -> None:
        for name in [name for name in tensors if ".layers.1." in name]:
            del tensors[name]

    with pytest.raises(FailedPrecondition, match="and 6 more"):
        load_model(changed(tmp_path, change), torch.float64)


@pytest.mark.parametrize(
    "name",
    [
        "vision_tower.blocks.0.patch.weight",
        "model.vision_tower.patch.conv.weight",
        "model.vision_tower.blocks.0.attention.weight",
        "model.rotary_emb.inv_freq",
        "model.layers.0.self_attn.rotary_emb.inv_freq",
        "model.layers.0.self_attn.masked_bias",
        "model.decoder.version",
        "mtp.0.norm.weight",
    ],
)
def test_tensors_of_no_part_of_the_model_do_not_matter(name: str, tmp_path: Path) -> None:
    plain = load_model(tiny_model(tmp_path / "plain"), torch.float64)
    more = load_model(changed(tmp_path / "more", add(name)), torch.float64)
    assert more.weights_hash == plain.weights_hash


def test_a_head_that_is_the_embedding_need_not_be_there(tmp_path: Path) -> None:
    folder = changed(tmp_path, drop("lm_head.weight"))
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "tie_word_embeddings": True}))
    load_model(folder, torch.float64)


def test_truncated_weights(tmp_path: Path) -> None:
    weights = tiny_model(tmp_path) / WEIGHTS
    weights.write_bytes(weights.read_bytes()[:-1000])
    with pytest.raises(FailedPrecondition, match="model type 'llama' cannot be loaded"):
        load_model(tmp_path, torch.float64)


def test_missing_weights(tmp_path: Path) -> None:
    (tiny_model(tmp_path) / WEIGHTS).unlink()
    with pytest.raises(FailedPrecondition, match="cannot be loaded"):
        load_model(tmp_path, torch.float64)


def test_a_missing_shard(tmp_path: Path) -> None:
    (tiny_model(tmp_path) / WEIGHTS).unlink()
    index = {"metadata": {}, "weight_map": {Q_PROJ: "model-00001-of-00002.safetensors"}}
    (tmp_path / f"{WEIGHTS}.index.json").write_text(json.dumps(index))
    with pytest.raises(FailedPrecondition, match="cannot be loaded"):
        load_model(tmp_path, torch.float64)


def test_no_config(tmp_path: Path) -> None:
    with pytest.raises(FailedPrecondition, match=r"has no config\.json"):
        load_model(tmp_path, torch.float64)


def test_an_adapter(tmp_path: Path) -> None:
    (tmp_path / "adapter_config.json").write_text("{}")
    with pytest.raises(FailedPrecondition, match="is an adapter: merge it into its model first"):
        load_model(tmp_path, torch.float64)


@pytest.mark.parametrize("content", ["", "{", "[]", "{}", '{"model_type": "no such"}', "null"])
def test_a_config_of_no_model(content: str, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(content)
    with pytest.raises(FailedPrecondition, match=r"config\.json cannot be read") as caught:
        load_model(tmp_path, torch.float64)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("method", ["awq", "gptq"])
def test_quantized_weights_that_nothing_here_reads(method: str, tmp_path: Path) -> None:
    folder = configured(tmp_path, quantization_config={"quant_method": method, "bits": 4})
    with pytest.raises(FailedPrecondition, match="cannot be") as caught:
        load_model(folder, torch.float64)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("method", ["fp8", "bitsandbytes", "compressed-tensors", "no such"])
def test_quantized_weights_that_would_be_taken_for_whole_ones(method: str, tmp_path: Path) -> None:
    def quantize(tensors: dict[str, Tensor]) -> None:
        tensors[Q_PROJ] = tensors[Q_PROJ].to(torch.int8)
        tensors[f"{Q_PROJ}_scale"] = torch.ones(1)

    folder = changed(tmp_path, quantize)
    config = json.loads((folder / "config.json").read_text())
    quantized = {**config, "quantization_config": {"quant_method": method}}
    (folder / "config.json").write_text(json.dumps(quantized))
    with pytest.raises(FailedPrecondition):
        load_model(folder, torch.float64)


@pytest.mark.parametrize("dtype", [torch.int8, torch.uint8, torch.float8_e4m3fn])
def test_codes_of_weights_without_a_word_of_it(dtype: torch.dtype, tmp_path: Path) -> None:
    def quantize(tensors: dict[str, Tensor]) -> None:
        tensors[Q_PROJ] = (tensors[Q_PROJ] * 100).to(dtype)

    with pytest.raises(FailedPrecondition, match=f"no config says how: {Q_PROJ}"):
        load_model(changed(tmp_path, quantize), torch.float64)


@pytest.mark.parametrize("fields", [{"vocab_size": 300}, {"intermediate_size": 64}])
def test_a_config_of_other_sizes(fields: dict[str, int], tmp_path: Path) -> None:
    with pytest.raises(FailedPrecondition, match="the weights do not fit"):
        load_model(configured(tmp_path, **fields), torch.float64)


def test_fewer_layers_in_the_weights_than_in_the_config(tmp_path: Path) -> None:
    with pytest.raises(FailedPrecondition, match="the weights lack tensors"):
        load_model(configured(tmp_path, num_hidden_layers=3), torch.float64)


BROKEN = ["", "{", "[]", "null", "version https://git-lfs.github.com/spec/v1", "\ufeff{}"]
FILES = ["tokenizer.json", "tokenizer_config.json", "special_tokens_map.json"]


@pytest.mark.parametrize("content", BROKEN)
@pytest.mark.parametrize("name", [*FILES, "generation_config.json"])
def test_broken_files_beside_the_weights_are_said(name: str, content: str, tmp_path: Path) -> None:
    (tiny_model(tmp_path) / name).write_text(content)
    with pytest.raises(FailedPrecondition, match=r"cannot be (read|loaded)") as caught:
        load_model(tmp_path, torch.float64)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", [*FILES, "chat_template.jinja", "generation_config.json"])
def test_folders_of_such_names_are_said(name: str, tmp_path: Path) -> None:
    path = tiny_model(tmp_path) / name
    path.unlink(missing_ok=True)
    path.mkdir()
    with pytest.raises(FailedPrecondition, match="cannot be read"):
        load_model(tmp_path, torch.float64)


def test_a_template_without_its_text_is_said(tmp_path: Path) -> None:
    config = {"chat_template": [{"name": "default"}]}
    (tiny_model(tmp_path) / "tokenizer_config.json").write_text(json.dumps(config))
    with pytest.raises(FailedPrecondition, match="cannot be read"):
        load_model(tmp_path, torch.float64)


def test_a_config_that_says_all_is_a_decoders_still(tmp_path: Path) -> None:
    """Older transformers wrote the defaults of all fields, those of encoders among them."""
    load_model(configured(tmp_path, is_decoder=False, is_encoder_decoder=False), torch.float64)


def test_layers_that_predict_more_tokens_do_not_matter(tmp_path: Path) -> None:
    folder = changed(tmp_path, add("model.layers.2.input_layernorm.weight"))
    config = json.loads((folder / "config.json").read_text())
    more = {**config, "num_nextn_predict_layers": 1}
    (folder / "config.json").write_text(json.dumps(more))
    load_model(folder, torch.float64)
