"""Gumbel noise as paceline.engine.sampling.sampler has it, of all ids of many rows."""

import numpy as np
import torch
from torch import Tensor

from paceline.engine.torch.sampling.transfer import to_device
from paceline.protocol.hashing import mix

_32_BITS = 0xFFFFFFFF


def noise_hash(seeds: list[tuple[int, int]], vocabulary: int, device: torch.device) -> Tensor:
    """32-bit hashes of (seed, position, id) in int64, [rows, vocabulary]; seeds with positions."""
    keys = np.array([mix(mix(0, seed), position) for seed, position in seeds], np.uint64)
    low = to_device((keys & np.uint64(_32_BITS)).astype(np.int64), device)[:, None]
    high = to_device((keys >> np.uint64(32)).astype(np.int64), device)[:, None]
    ids = torch.arange(vocabulary, device=device)[None]
    return _lowbias32(_lowbias32(ids ^ low).bitwise_xor_(high))


def gumbel(hashes: Tensor) -> Tensor:
    """Noise of the hashes, float64."""
    uniform = hashes.double().add_(0.5).div_(2.0**32)
    return uniform.neg_().log1p_().neg_().log_().neg_()


def _lowbias32(x: Tensor) -> Tensor:
    """A round of lowbias32 (Wellons 2018); `x` is changed. Products wrap at 64 bits, unharmed."""
    x ^= x >> 16
    x.mul_(0x7FEB352D).bitwise_and_(_32_BITS)
    x ^= x >> 15
    x.mul_(0x846CA68B).bitwise_and_(_32_BITS)
    x ^= x >> 16
    return x
