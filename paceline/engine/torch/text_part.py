"""Models that also see or hear: only their text part is loaded, and computed as transformers does.

The class that transformers has for the whole model runs without its other parts: text alone never
reaches them. What they would have weighed is neither read nor held.
"""

import functools
from typing import Any

from torch import nn
from transformers import AutoModelForCausalLM, PreTrainedModel
from transformers.models.auto.modeling_auto import MODEL_FOR_MULTIMODAL_LM_MAPPING

Loader = Any
"""What has from_pretrained: a class of transformers."""


def text_config(config: Any) -> Any:
    """The config of the text part; `config` itself where that is the whole model."""
    found = config.get_text_config(decoder=True)
    return found if type(found) is not type(config) else config


def loader_of(config: Any) -> Loader:
    """The class that loads the model: all of it, or its text part where it has others."""
    kind = MODEL_FOR_MULTIMODAL_LM_MAPPING.get(type(config), None)
    if kind is None or text_config(config) is config:
        return AutoModelForCausalLM
    return _text_part_of(kind)


def is_of_another_part(name: str, model: PreTrainedModel) -> bool:
    """Whether a tensor of the files is of a part that was left out."""
    return name.startswith(tuple(f"{part}." for part in getattr(model, "left_out", ())))


@functools.cache
def _text_part_of(kind: type[PreTrainedModel]) -> type[PreTrainedModel]:
    """`kind`, made without all but its decoder and head, by the same name."""

    def init(self: Any, *args: Any, **named: Any) -> None:
        kind.__init__(self, *args, **named)
        self.left_out = _leave_out(self)

    return type(kind.__name__, (kind,), {"__init__": init, "__module__": kind.__module__})


def _leave_out(model: Any) -> tuple[str, ...]:
    """Take out of `model` what is not its decoder, its head, or holds one; names what it took."""
    kept = {*model.get_decoder().modules(), model.get_output_embeddings()}
    taken: list[str] = []

    def walk(module: nn.Module, prefix: str) -> None:
        for name, child in list(module.named_children()):
            if child not in kept and kept.isdisjoint(child.modules()):
                setattr(module, name, None)
                taken.append(f"{prefix}{name}")
            elif child not in kept:
                walk(child, f"{prefix}{name}.")

    walk(model, "")
    return tuple(taken)
