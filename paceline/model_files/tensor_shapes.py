"""Where the weights of a decoder are among all tensors, by their names."""

import re
from collections.abc import Iterator, Mapping
from typing import NamedTuple

Shapes = Mapping[str, tuple[int, ...]]
"""Of all tensors by their name."""
_EMBEDDING = re.compile(r"(?P<root>.*?)(embed_tokens|wte|embed_in|word_embeddings)\.weight")
_LAYER = re.compile(r"(layers|h|blocks)\.(\d+)\.(.+)")
_OF_TEXT = re.compile(r"(^|\.)(language_model|text_model|decoder)\.")
_NOT_A_LAYER = ("eh_proj", "enorm", "hnorm", "shared_head")
"""What only layers have that predict further tokens: they come behind the model's own."""


class Tensor(NamedTuple):
    """A tensor of the decoder. part: its name within its layer, or without the model's."""

    name: str
    part: str
    shape: tuple[int, ...]

    @property
    def seen(self) -> str:
        """What is seen, for a message."""
        return f"{self.name} has shape {list(self.shape)}"


class DecoderTensors(NamedTuple):
    """What the names tell. layers: how many there are, 0 where that is not known."""

    embedding: Tensor
    layers: int
    in_layers: tuple[Tensor, ...]
    heads: tuple[Tensor, ...]


def decoder_of(shapes: Shapes) -> DecoderTensors | None:
    """The decoder among the tensors; None where it is not known which they are."""
    found = list(_embeddings(shapes))
    whole = [(root, one) for root, one in found if _in_layers(shapes, root)]
    of_text = [(root, one) for root, one in whole or found if _OF_TEXT.search(root)]
    candidates = whole if len(whole) == 1 else of_text
    if len(candidates) != 1:
        return None
    root, embedding = candidates[0]
    layers = _in_layers(shapes, root)
    beyond = {number for number, tensor in layers if _is_beyond(tensor)}
    count = max((1 + number for number, _ in layers if number not in beyond), default=0)
    heads = (name for name in shapes if name.endswith("lm_head.weight"))
    return DecoderTensors(
        embedding,
        count,
        tuple(tensor for number, tensor in layers if number not in beyond),
        tuple(Tensor(name, "lm_head.weight", shapes[name]) for name in heads),
    )


def _embeddings(shapes: Shapes) -> Iterator[tuple[str, Tensor]]:
    """With what their names begin with, as `model.`."""
    for name, shape in shapes.items():
        match = _EMBEDDING.fullmatch(name)
        if match and len(shape) == 2:
            yield match["root"], Tensor(name, match[2], shape)


def _in_layers(shapes: Shapes, root: str) -> list[tuple[int, Tensor]]:
    """The tensors of the layers beside an embedding, with the layer's number.

    None where there are several stacks of them: one may be another part's, as of images.
    """
    found = []
    for name, shape in shapes.items():
        if name.startswith(root) and (match := _LAYER.fullmatch(name, len(root))):
            found.append((match[1], int(match[2]), Tensor(name, match[3], shape)))
    stacks = {stack for stack, _, _ in found}
    return [(number, tensor) for _, number, tensor in found] if len(stacks) == 1 else []


def _is_beyond(tensor: Tensor) -> bool:
    return tensor.part.partition(".")[0] in _NOT_A_LAYER
