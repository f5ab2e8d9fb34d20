"""The tensors of a GGUF file by the names of a model, dequantized one after another."""

import warnings
from typing import Any

import torch
from gguf import ReaderTensor, dequantize
from transformers import AutoModelForCausalLM, PreTrainedConfig, PreTrainedModel
from transformers.modeling_gguf_pytorch_utils import (
    TENSOR_PROCESSORS,
    TensorProcessor,
    get_gguf_hf_weights_map,
)

from paceline.engine.torch.gguf.gguf_file import GGUFFile
from paceline.engine.torch.gguf.rope import TENSORS
from paceline.errors import FailedPrecondition

_IGNORED = {*TENSORS, "rope_freqs"}
_SHOWN = 5


def empty_model(config: PreTrainedConfig) -> PreTrainedModel:
    """The model of a config without memory for weights."""
    with torch.device("meta"):
        model: PreTrainedModel = AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16)
    return model


def read_weights(source: GGUFFile, model: PreTrainedModel) -> dict[str, torch.Tensor]:
    """All weights of `model` in bf16; one tensor at a time is held in float32.

    Raises FailedPrecondition naming tensors that are missing, are left over or do not fit.
    """
    config = model.config
    kind: Any = TENSOR_PROCESSORS.get(source.architecture, TensorProcessor)
    processor: TensorProcessor = kind(config=_heads(config))
    names = get_gguf_hf_weights_map(model, processor, model_type=source.architecture)
    found: dict[str, torch.Tensor] = {}
    left = [tensor.name for tensor in source.tensors() if not _known(tensor.name, names)]
    _refuse("tensors that the model has no place for", left)
    for tensor in source.tensors():
        if tensor.name not in _IGNORED:
            _read(tensor, processor, names, found)
    _check(found, model)
    return found


def _heads(config: PreTrainedConfig) -> dict[str, Any]:
    """The config as the processors read it, by the names of the family's own table."""
    return config.to_dict() | {
        name: getattr(config, name)
        for name in ("num_attention_heads", "num_key_value_heads", "n_head", "hidden_size")
        if hasattr(config, name)
    }


def _known(name: str, names: dict[str, str]) -> bool:
    return name in _IGNORED or name in names or name.removesuffix(".weight") in names


def _read(
    tensor: ReaderTensor,
    processor: TensorProcessor,
    names: dict[str, str],
    found: dict[str, torch.Tensor],
) -> None:
    """Dequantize one tensor, undo what its conversion did, and keep it in bf16."""
    try:
        weights = dequantize(tensor.data, tensor.tensor_type)
    except NotImplementedError as error:
        kind = tensor.tensor_type.name
        raise FailedPrecondition(f"tensor {tensor.name} is {kind}, which is not read") from error
    parsed = {"tensors": found}
    result = processor.process(
        weights=weights, name=tensor.name, tensor_key_mapping=names, parsed_parameters=parsed
    )
    if result.name in names:
        with warnings.catch_warnings(action="ignore"):  # a mapped file is read-only
            found[names[result.name]] = torch.from_numpy(result.weights).to(torch.bfloat16)
    for name, value in found.items():
        if value.dtype != torch.bfloat16:  # experts, which processors gather themselves
            found[name] = value.to(torch.bfloat16)


def _check(found: dict[str, torch.Tensor], model: PreTrainedModel) -> None:
    expected = {name: value.shape for name, value in model.state_dict().items()}
    if model.config.tie_word_embeddings:
        expected.pop("lm_head.weight", None)
        found.pop("lm_head.weight", None)
    _refuse("no tensors for", [name for name in expected if name not in found])
    _refuse(
        "tensors of another shape for",
        [name for name, shape in expected.items() if found[name].shape != shape],
    )


def _refuse(what: str, names: list[str]) -> None:
    if names:
        more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
        raise FailedPrecondition(f"the file has {what} {', '.join(sorted(names)[:_SHOWN])}{more}")
