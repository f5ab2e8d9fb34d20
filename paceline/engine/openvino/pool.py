"""KV of all sessions in tensors of OpenVINO, whose blocks are smaller than our pages."""

import openvino as ov

from paceline.engine.interfaces import PAGE_TOKENS
from paceline.engine.pages import PagePool


class OpenvinoPool(PagePool):
    """Pages of all layers: a page is so many blocks that lie side by side."""

    def __init__(self, model: ov.CompiledModel, request: ov.InferRequest, pages: int) -> None:
        """Of so many pages at first; `request` is told where they lie."""
        super().__init__(pages)
        self._request = request
        self._inputs = {one.any_name: one for one in model.inputs if "_cache." in one.any_name}
        # Keys' blocks have rows of scales behind those of their tokens.
        self.block_tokens: int = self._inputs["value_cache.0"].partial_shape[2].get_length()
        self.page_blocks: int = PAGE_TOKENS // self.block_tokens
        self._tensors = {name: self._tensor(name) for name in self._inputs}
        self._tell()

    @property
    def token_bytes(self) -> int:
        """See PagePool."""
        held: int = sum(tensor.byte_size for tensor in self._tensors.values())
        return held // (self._pages * PAGE_TOKENS)

    def _copy(self, page: int, new: int) -> None:
        """See PagePool."""
        for tensor in self._tensors.values():
            blocks = tensor.data
            blocks[self._blocks(new)] = blocks[self._blocks(page)]

    def _resize(self, pages: int) -> None:
        """See PagePool."""
        for name, old in self._tensors.items():
            self._tensors[name] = self._tensor(name)
            self._tensors[name].data[: old.shape[0]] = old.data
        self._tell()

    def _blocks(self, page: int) -> slice:
        return slice(page * self.page_blocks, (page + 1) * self.page_blocks)

    def _tensor(self, name: str) -> ov.Tensor:
        """Memory that the system gives when it is first written to."""
        found = self._inputs[name]
        rest = [one.get_length() for one in list(found.partial_shape)[1:]]
        return ov.Tensor(found.element_type, ov.Shape([self._pages * self.page_blocks, *rest]))

    def _tell(self) -> None:
        for name, tensor in self._tensors.items():
            self._request.set_tensor(name, tensor)
