"""Whether a folder's weights are those of its model: what is missing would be random numbers."""

from typing import Any

from torch import nn

from paceline.errors import FailedPrecondition

_NAMED = 3
"""Tensors that an error names; of the others it says how many."""


def check_weights(model: nn.Module, info: dict[str, Any]) -> None:
    """Raise FailedPrecondition naming tensors that are missing, misshapen or without a place.

    info: what transformers says of loading. Tensors of modules that the model does not have, such
    as a vision tower, do not matter.
    """
    misshapen = [
        f"{name} has shape {tuple(found)} instead of {tuple(wanted)}"
        for name, found, wanted in info["mismatched_keys"]
    ]
    homeless = [name for name in info["unexpected_keys"] if _belongs(name, model)]
    for what, names in (
        ("lack tensors", sorted(info["missing_keys"])),
        ("do not fit", sorted(misshapen)),
        ("have tensors that the model has no place for", sorted(homeless)),
    ):
        if names:
            raise FailedPrecondition(f"the weights {what}: {_some(names)}")


def _belongs(name: str, model: nn.Module) -> bool:
    """Whether a tensor would be of a module that is there, or of a layer behind the last one."""
    modules, buffers = dict(model.named_modules()), dict(model.named_buffers())
    if name in buffers:
        return False
    parent = name.rpartition(".")[0]
    if parent in modules:
        return parent != ""
    while parent and parent not in modules:
        parent = parent.rpartition(".")[0]
    return isinstance(modules.get(parent), nn.ModuleList)


def _some(names: list[str]) -> str:
    more = len(names) - _NAMED
    listed = ", ".join(names[:_NAMED])
    return f"{listed} and {more} more" if more > 0 else listed
