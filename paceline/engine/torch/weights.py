"""Whether a folder's weights are those of its model: what is missing would be random numbers."""

import re
from pathlib import Path
from typing import Any

from safetensors import safe_open
from torch import nn
from transformers import PreTrainedModel

from paceline.engine.torch.text_part import is_of_another_part
from paceline.errors import FailedPrecondition

_BUFFERS = re.compile(r"(inv_freq|masked_bias|position_ids|att(entio)?n\.bias|decoder\.version)$")
"""What older transformers wrote beside the weights; it is computed."""
_LAYER = re.compile(r"(^|\.)(\d+)\.")
_BODY = re.compile("norm|embed")
_CODES = {"I8", "U8", "I16", "U16", "I32", "U32", "I64", "U64", "F8_E4M3", "F8_E5M2"}
_NAMED = 3
"""Tensors that an error names; of the others it says how many."""


def check_weights(model: PreTrainedModel, info: dict[str, Any]) -> None:
    """Raise FailedPrecondition naming tensors that are missing, misshapen or without a place.

    info: what transformers says of loading. Tensors of modules that the model does not have, such
    as a vision tower, do not matter.
    """
    misshapen = [
        f"{name} has shape {tuple(found)} instead of {tuple(wanted)}"
        for name, found, wanted in info["mismatched_keys"]
    ]
    modules = dict(model.named_modules())
    homeless = [
        name
        for name in info["unexpected_keys"]
        if _belongs(name, modules)
        and not _is_of_more(name, model)
        and not is_of_another_part(name, model)
    ]
    for what, names in (
        ("lack tensors", sorted(info["missing_keys"])),
        ("do not fit", sorted(misshapen)),
        ("have tensors that the model has no place for", sorted(homeless)),
    ):
        if names:
            raise FailedPrecondition(
                f"the weights {what}: {_some(names)}. They are not those of config.json beside "
                "them: fetch both again, of one revision"
            )


def check_dtypes(folder: Path) -> None:
    """Raise FailedPrecondition naming tensors of whole numbers: codes, not weights.

    For folders whose config does not say how they are quantized: the codes would be cast.
    """
    coded = []
    for path in sorted(folder.glob("*.safetensors")):
        with safe_open(path, "pt") as tensors:
            coded += [
                name
                for name in tensors.keys()  # noqa: SIM118  the file is no mapping
                if name.endswith(".weight") and tensors.get_slice(name).get_dtype() in _CODES
            ]
    if coded:
        raise FailedPrecondition(
            f"the weights are quantized, and no config says how: {_some(coded)}"
        )


def _belongs(name: str, modules: dict[str, nn.Module]) -> bool:
    """Whether a tensor would be of the model: of a layer, of one behind the last, of its body."""
    if _BUFFERS.search(name):
        return False
    parent = name.rpartition(".")[0]
    while parent and parent not in modules:
        parent = parent.rpartition(".")[0]
    within = name[len(parent) :].lstrip(".")
    is_own = parent != "" and "." not in within
    is_of_body = within.count(".") == 1 and _BODY.search(within) is not None
    is_of_layer = _LAYER.search(f"{parent}.") or isinstance(modules[parent], nn.ModuleList)
    return is_own or is_of_body or bool(is_of_layer)


def _is_of_more(name: str, model: nn.Module) -> bool:
    """Whether a tensor is of the layers that only predict more tokens at a time."""
    config: Any = model.config
    more = getattr(config, "num_nextn_predict_layers", None) or 0
    layers = getattr(config, "num_hidden_layers", 0)
    index = _LAYER.search(name)
    return index is not None and layers <= int(index[2]) < layers + more


def _some(names: list[str]) -> str:
    more = len(names) - _NAMED
    listed = ", ".join(names[:_NAMED])
    return f"{listed} and {more} more" if more > 0 else listed
