"""A prepared draft in memory, as step.c takes it."""

import contextlib
import mmap

import numpy as np

from paceline.engine.compiled.library import StepLayer, StepLinear, StepModel
from paceline.engine.compiled.shape import GROUP, LINE, WIDTH
from paceline.engine.prepared.draft_file import PreparedDraft


class StepWeights:
    """All tensors of a draft side by side, in large pages where the system has them.

    The embeddings stay in the file, as of them a step reads a row a token.
    """

    def __init__(self, draft: PreparedDraft) -> None:
        """Read them."""
        self._tensors = draft.tensors
        size = sum(_lines(tensor.nbytes) for tensor in draft.tensors.values())
        # Shared memory, which is mmap's default, has no large pages.
        self._memory = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        with contextlib.suppress(OSError):  # a kernel may be built without large pages
            self._memory.madvise(mmap.MADV_HUGEPAGE)
        self._bytes = np.frombuffer(self._memory, np.uint8)
        self._taken = 0
        indices = range(len(draft.shape.windows))
        self._layers = (StepLayer * len(indices))(*(self._layer(draft, one) for one in indices))
        self.model = self._model(draft)

    def _model(self, draft: PreparedDraft) -> StepModel:
        shape = draft.shape
        return StepModel(
            width=self._tensors["norm"].shape[0],
            heads=shape.heads,
            kv_heads=shape.kv_heads,
            head_dim=shape.head_dim,
            mlp_width=self._layers[0].gate_up.outputs // 2,
            layers=len(self._layers),
            epsilon=shape.epsilon,
            rope_scaling=shape.rope_scaling,
            embeddings=self._tensors["embeddings"].ctypes.data,
            norm=self._address("norm"),
            inverse_frequencies=self._address("inverse_frequencies"),
            head=self._linear("head"),
            layer=self._layers,
        )

    def _layer(self, draft: PreparedDraft, index: int) -> StepLayer:
        norms = ("input_norm", "query_norm", "key_norm", "mlp_norm")
        return StepLayer(
            *(self._address(f"{index}.{name}") for name in norms),
            *(self._linear(f"{index}.{name}") for name in ("qkv", "out", "gate_up", "down")),
            draft.shape.windows[index],
        )

    def _linear(self, name: str) -> StepLinear:
        blocks, groups, _ = self._tensors[name].shape
        outputs, inputs = blocks * WIDTH, groups * GROUP
        return StepLinear(self._address(name), self._address(f"{name}.bias"), outputs, inputs)

    def _address(self, name: str) -> int | None:
        """Where a tensor lies from now on; None where there is none."""
        tensor = self._tensors.get(name)
        if tensor is None:
            return None
        start, self._taken = self._taken, self._taken + _lines(tensor.nbytes)
        self._bytes[start : start + tensor.nbytes] = tensor.reshape(-1).view(np.uint8)
        return self._bytes.ctypes.data + start


def _lines(size: int) -> int:
    """Bytes of whole lines."""
    return -(-size // LINE) * LINE
