"""KV of all sessions in one piece of memory, which the system gives as pages are written to."""

import numpy as np

from paceline.engine.interfaces import PAGE_TOKENS
from paceline.engine.pages import PagePool
from paceline.engine.prepared.draft_file import DraftShape


class CompiledPool(PagePool):
    """Pages of all layers, [pages, layers, KV heads, keys and values], in bfloat16."""

    def __init__(self, shape: DraftShape, pages: int) -> None:
        """Of so many pages at first."""
        super().__init__(pages)
        heads = len(shape.windows) * shape.kv_heads
        self._page_numbers = heads * 2 * PAGE_TOKENS * shape.head_dim
        self._kv = self._zeros()

    @property
    def address(self) -> int:
        """Where they lie now."""
        return self._kv.ctypes.data

    @property
    def token_bytes(self) -> int:
        """See PagePool."""
        return self._page_numbers * self._kv.itemsize // PAGE_TOKENS

    def _copy(self, page: int, new: int) -> None:
        """See PagePool."""
        self._kv[new] = self._kv[page]

    def _resize(self, pages: int) -> None:
        """See PagePool."""
        old, self._kv = self._kv, self._zeros()
        self._kv[: len(old)] = old

    def _zeros(self) -> np.ndarray[tuple[int, int], np.dtype[np.uint16]]:
        # What is not written yet must be finite: values behind the last token have a weight of 0.
        return np.zeros((self._pages, self._page_numbers), np.uint16)
