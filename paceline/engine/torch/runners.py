"""Which runner a device has: KV in pages and kernels on a GPU, contiguous KV elsewhere."""

from typing import Protocol

import torch

from paceline.engine.interfaces import KVCache, PickingRunner
from paceline.engine.torch.fused import FusedModel
from paceline.engine.torch.kernels import has_kernels
from paceline.engine.torch.loading import LoadedModel
from paceline.engine.torch.padding import Padding
from paceline.engine.torch.runner import ModelRunner


class MeasuredCache(KVCache, Protocol):
    """A cache that knows what a token takes."""

    @property
    def token_bytes(self) -> int:
        """Bytes of a token, all layers together; 0 before the first."""


class TorchRunner(PickingRunner, Protocol):
    """A runner of a model of torch."""

    def new_cache(self, max_length: int = 0) -> MeasuredCache:
        """An empty cache of a session with at most so many tokens."""


def make_runner(loaded: LoadedModel, padding: Padding, dtype: str, kv_tokens: int) -> TorchRunner:
    """The runner of the model on its device. kv_tokens: of all sessions."""
    if has_kernels(loaded.device.type, getattr(torch, dtype)):
        return _paged(loaded, padding, kv_tokens)
    return ModelRunner(
        *(loaded.forward, loaded.device, padding, loaded.rope_length.of),
        picks=picks_on(loaded.device),
    )


def picks_on(device: torch.device) -> bool:
    """Whether tokens are picked where the logits are. On the CPU numpy is quicker."""
    return device.type != "cpu"


def _paged(loaded: LoadedModel, padding: Padding, kv_tokens: int) -> TorchRunner:
    # Without a GPU there need be no Triton.
    from paceline.engine.torch.paged.runner import PagedRunner, cuda_graph

    fixed = isinstance(loaded.forward, FusedModel) and not loaded.rope_length.matters
    pages = kv_tokens // PagedRunner.page_tokens
    return PagedRunner(
        *(loaded.forward, loaded.device, padding, pages, loaded.rope_length.of),
        capture=cuda_graph if fixed else None,
    )
