"""Quantized weights of tiny models, made on the spot as their formats say.

Scales are powers of two, so that what a quantized weight stands for is exact in bfloat16.
"""

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import AutoModelForCausalLM

WEIGHTS = "model.safetensors"
GROUP = 32
AWQ_ORDER = (0, 2, 4, 6, 1, 3, 5, 7)
"""Which of eight columns each four bits of AWQ's words hold, from the lowest."""
LARGEST_FLOAT8 = 448.0

Written = tuple[dict[str, Tensor], Tensor]
"""Tensors of a layer by what follows its name, and the weight that they stand for."""


@dataclass(frozen=True, slots=True)
class Format:
    """write: of a weight (outputs, inputs). says: quantization_config of the model."""

    write: Callable[[Tensor], Written]
    says: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Quantized:
    """A folder in a format, and one in bfloat16 with the weights that it stands for."""

    folder: Path
    meant: Path


def quantized(model: Path, folder: Path, form: Format) -> Quantized:
    """Both folders, in `folder`, of a model whose layers are all quantized but its head."""
    made = Quantized(folder / "quantized", folder / "meant")
    written: dict[str, Tensor] = {}
    meant: dict[str, Tensor] = {}
    for name, weight in load_file(model / WEIGHTS).items():
        if "proj" not in name or weight.dim() != 2:
            written[name] = meant[name] = weight.bfloat16()
            continue
        tensors, stands_for = form.write(weight.float())
        meant[name] = stands_for.bfloat16()
        assert torch.equal(meant[name].float(), stands_for), "not exact in bfloat16"
        base = name.removesuffix("weight")
        written |= {f"{base}{its}": tensor.contiguous() for its, tensor in tensors.items()}
    _save(model, made.folder, written, {"quantization_config": form.says})
    _save(model, made.meant, meant, {})
    return made


def _save(model: Path, folder: Path, weights: dict[str, Tensor], more: dict[str, Any]) -> None:
    shutil.copytree(model, folder)
    save_file(weights, folder / WEIGHTS, {"format": "pt"})
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "dtype": "bfloat16", **more}))


def shortfall(meant: Path, prompt: tuple[int, ...], tokens: tuple[int, ...]) -> float:
    """By how much each token's logit is below the best at most, in their standard deviations."""
    model = AutoModelForCausalLM.from_pretrained(meant, dtype=torch.float32)
    with torch.no_grad():
        logits = model(torch.tensor([prompt + tokens])).logits[0, len(prompt) - 1 : -1]
    chosen = logits.gather(1, torch.tensor(tokens)[:, None])[:, 0]
    return float(((logits.amax(dim=1) - chosen) / logits.std(dim=1)).max())


def _scale(largest: Tensor, limit: float) -> Tensor:
    """The least power of two that keeps `largest` within `limit`."""
    return torch.exp2(torch.log2(largest / limit).ceil())


def _int8(weight: Tensor) -> Written:
    scale = _scale(weight.abs().amax(dim=1, keepdim=True), 127)
    bits = (weight / scale).round()
    return {"weight": bits.to(torch.int8), "weight_scale": scale.bfloat16()}, bits * scale


def _float8_channels(weight: Tensor) -> Written:
    scale = _scale(weight.abs().amax(dim=1, keepdim=True), LARGEST_FLOAT8)
    bits = (weight / scale).to(torch.float8_e4m3fn)
    return {"weight": bits, "weight_scale": scale.bfloat16()}, bits.float() * scale


def _float8(weight: Tensor) -> Written:
    scale = _scale(weight.abs().amax(), LARGEST_FLOAT8)
    bits = (weight / scale).to(torch.float8_e4m3fn)
    return {"weight": bits, "weight_scale": scale}, bits.float() * scale


def _float8_blocks(weight: Tensor) -> Written:
    rows, columns = weight.shape
    blocks = weight.view(rows // 128, 128, columns // 128, 128)
    scale = _scale(blocks.abs().amax(dim=(1, 3), keepdim=True), LARGEST_FLOAT8)
    bits = (blocks / scale).to(torch.float8_e4m3fn)
    tensors = {"weight": bits.view(rows, columns), "weight_scale_inv": scale[:, 0, :, 0]}
    return tensors, (bits.float() * scale).view(rows, columns)


def _four_bits(weight: Tensor, zeros: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """bits (inputs, outputs), scales (groups, outputs) and the weight. zeros: as scales."""
    groups = weight.T.reshape(-1, GROUP, weight.shape[0])
    scales = _scale(groups.abs().amax(dim=1), 6)
    bits = ((groups / scales[:, None]).round() + zeros[:, None]).clamp(0, 15)
    meant = ((bits - zeros[:, None]) * scales[:, None]).reshape(weight.T.shape).T
    return bits.reshape(weight.T.shape).int(), scales.bfloat16(), meant


def _packed(columns: Tensor, order: tuple[int, ...]) -> Tensor:
    """Eight columns of four bits each in an int32."""
    eights = columns.long().unflatten(1, (-1, 8))[:, :, list(order)]
    words = (eights << torch.arange(0, 32, 4)).sum(dim=2)
    return torch.where(words >= 1 << 31, words - (1 << 32), words).int()


def _awq(weight: Tensor) -> Written:
    outputs, inputs = weight.shape
    zeros = (torch.arange(inputs // GROUP * outputs) % 4 + 6).view(-1, outputs)
    bits, scales, meant = _four_bits(weight, zeros)
    tensors = {"qweight": _packed(bits, AWQ_ORDER), "qzeros": _packed(zeros, AWQ_ORDER)}
    return {**tensors, "scales": scales}, meant


def _gptq(weight: Tensor) -> Written:
    outputs, inputs = weight.shape
    zeros = torch.full((inputs // GROUP, outputs), 8)
    bits, scales, meant = _four_bits(weight, zeros)
    packed = _packed(bits.T, tuple(range(8))).T
    # The format has zeros less one.
    tensors = {"qweight": packed, "qzeros": _packed(zeros - 1, tuple(range(8))), "scales": scales}
    return {**tensors, "g_idx": (torch.arange(inputs) // GROUP).int()}, meant


def _compressed(form: str, kind: str) -> dict[str, Any]:
    """Of compressed-tensors in 8 bits: a scale for each output, and one for each row of inputs."""
    of_weights = {"num_bits": 8, "type": kind, "symmetric": True, "strategy": "channel"}
    activations = {**of_weights, "strategy": "token", "dynamic": True}
    group = {"targets": ["Linear"], "weights": of_weights, "input_activations": activations}
    return {
        "quant_method": "compressed-tensors",
        "format": form,
        "config_groups": {"group_0": group},
        "ignore": ["lm_head"],
        "quantization_status": "compressed",
    }


_FOUR = {"bits": 4, "group_size": GROUP}
_FP8 = {"quant_method": "fp8", "activation_scheme": "dynamic"}
_GPTQ = {"quant_method": "gptq", **_FOUR, "desc_act": False, "sym": True}
FORMATS = {
    "int8": Format(_int8, _compressed("int-quantized", "int")),
    "awq": Format(_awq, {"quant_method": "awq", **_FOUR, "version": "gemm", "zero_point": True}),
    "gptq": Format(_gptq, _GPTQ),
    "gptq-by-activation": Format(_gptq, {**_GPTQ, "desc_act": True}),
    "float8": Format(_float8_channels, _compressed("float-quantized", "float")),
    "fp8": Format(_float8, _FP8),
    "fp8-blocks": Format(_float8_blocks, {**_FP8, "weight_block_size": [128, 128]}),
}
