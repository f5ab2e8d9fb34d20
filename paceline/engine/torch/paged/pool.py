"""KV of all sessions of a device: pages in one tensor a layer, at addresses that stay."""

import torch
from torch import Tensor

from paceline.engine.interfaces import PAGE_TOKENS
from paceline.engine.pages import PagePool

PagedLayer = tuple[Tensor, Tensor]
"""Keys and values of one layer, each [pages, kv_heads, PAGE_TOKENS, width]."""


class KVPool(PagePool):
    """Pages of all layers, on a device of torch."""

    def __init__(self, pages: int, device: torch.device) -> None:
        """Of so many pages at first; allocated a layer at a time, when its shapes are known."""
        super().__init__(pages)
        self._device = device
        self._layers: dict[int, PagedLayer] = {}
        self.moved = 0
        """How often it has grown: pages have other addresses then."""

    @property
    def token_bytes(self) -> int:
        """See PagePool."""
        tensors = (one for layer in self._layers.values() for one in layer)
        return sum(one[0, :, 0].nbytes for one in tensors)

    def layer(self, index: int, keys: Tensor, values: Tensor) -> PagedLayer:
        """Of layer `index`, whose rows are like these, [kv_heads, rows, width]."""
        if index not in self._layers:
            self._layers[index] = (self._zeros(keys), self._zeros(values))
        return self._layers[index]

    @torch.inference_mode()
    def _copy(self, page: int, new: int) -> None:
        """See PagePool."""
        for layer in self._layers.values():
            for one in layer:
                one[new] = one[page]

    def _resize(self, pages: int) -> None:
        """See PagePool."""
        self.moved += 1
        for index, layer in self._layers.items():
            keys, values = (_longer(one, pages) for one in layer)
            self._layers[index] = keys, values

    def _zeros(self, like: Tensor) -> Tensor:
        heads, _, width = like.shape
        shape = (self._pages, heads, PAGE_TOKENS, width)
        return torch.zeros(shape, dtype=like.dtype, device=self._device)


def _longer(tensor: Tensor, pages: int) -> Tensor:
    longer = tensor.new_zeros(pages, *tensor.shape[1:])
    longer[: tensor.shape[0]] = tensor
    return longer
