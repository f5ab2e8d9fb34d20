"""Target numerics: whether rows are exact here, and a name for all that decides their bits."""

import hashlib

import numpy as np
import torch

from paceline.engine.law import LAW_VERSION
from paceline.engine.loading import LoadedModel
from paceline.engine.runner import ModelRunner
from paceline.engine.work import Logits, Span

PROBE_TOKENS = 24


def probe(runner: ModelRunner, vocabulary_size: int) -> tuple[bool, bytes]:
    """Run a fixed prompt as one prefill, as verify blocks of 5 and token by token.

    Returns whether all rows have the same bits in all three, and the prefill's bits.
    """
    tokens = tuple((7 + 37 * index) % vocabulary_size for index in range(PROBE_TOKENS))
    whole = _run(runner, tokens, PROBE_TOKENS)
    exact = all(np.array_equal(whole, _run(runner, tokens, size)) for size in (1, 5))
    return exact, whole.tobytes()


def fingerprint(loaded: LoadedModel, dtype: torch.dtype, probed: bytes) -> str:
    """Hash of weights, dtype, law version, torch, device, instruction set and the probe's bits."""
    parts = (
        loaded.weights_hash,
        str(dtype),
        f"law {LAW_VERSION}",
        torch.__version__,
        loaded.device.type,
        torch.backends.cpu.get_cpu_capability(),
        hashlib.sha256(probed).hexdigest(),
    )
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:32]


def _run(runner: ModelRunner, tokens: tuple[int, ...], size: int) -> Logits:
    """Logits of all rows, [tokens, vocabulary], run in spans of `size`."""
    cache = runner.new_cache()
    rows = []
    for start in range(0, len(tokens), size):
        piece = tokens[start : start + size]
        rows.append(runner.forward([(cache, Span(start, piece, len(piece)))])[0])
    return np.concatenate(rows)
