"""Streams decoded in this process, step by step: what a step takes, without servers around it."""

import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from paceline.engine.interfaces import KVCache, Span
from paceline.engine.sampling.history import History
from paceline.engine.sampling.requests import Pick, PickRequest
from paceline.engine.sampling.sampler import pick
from paceline.engine.torch.exactness.operators import BatchInvariantOperators
from paceline.engine.torch.loading import LoadedModel, load_model
from paceline.engine.torch.padding import batch_invariant
from paceline.engine.torch.runners import TorchRunner, make_runner
from paceline.protocol.sampling import SamplingParams

STEP_ROWS = 256


@dataclass(frozen=True, slots=True)
class Loaded:
    """A model as servers run it, and how its operators are made batch-invariant."""

    model: LoadedModel
    runner: TorchRunner
    operators: BatchInvariantOperators


class Streams:
    """Some streams with random prompts, each of which decodes a token in every step."""

    def __init__(
        self, runner: TorchRunner, count: int, prompt: int, vocabulary: int, temperature: float
    ) -> None:
        """Prefill them."""
        rng = np.random.default_rng(0)
        self._runner, self._params = runner, SamplingParams(temperature=temperature)
        prompts = [tuple(rng.integers(0, vocabulary, prompt).tolist()) for _ in range(count)]
        self.tokens = [list(one) for one in prompts]
        self._histories = [History(one) for one in prompts]
        self._caches: list[KVCache] = [runner.new_cache() for _ in prompts]
        for cache, one in zip(self._caches, prompts, strict=True):
            for start in range(0, prompt - 1, STEP_ROWS):
                piece = one[start : min(start + STEP_ROWS, prompt - 1)]
                runner.forward([(cache, Span(start, piece, 0))])

    def step(self, drafts: int = 0) -> float:
        """Seconds of a step with so many rows beside each stream's own, which are thrown away."""
        started = time.perf_counter()
        batch = [(cache, self._span(at, drafts)) for at, cache in enumerate(self._caches)]
        rows = self._runner.forward_and_pick(batch)
        for at, given in enumerate(rows):
            first = given[0]
            token = first.token if isinstance(first, Pick) else self._pick(at, first)
            self.tokens[at].append(token)
            self._histories[at].append(token)
        return time.perf_counter() - started

    def _span(self, at: int, drafts: int) -> Span:
        tokens, history = self.tokens[at], self._histories[at]
        run = tuple(tokens[:drafts])
        asked = (self._params, at, (), history, run)
        span_tokens = (tokens[-1], *run)
        return Span(len(tokens) - 1, span_tokens, len(span_tokens), lambda: PickRequest.of(*asked))

    def _pick(self, at: int, row: np.ndarray) -> int:
        return pick(row, self._params, at, self._histories[at], ())


def load(folder: Path, device: str, dtype: str, kv_tokens: int = 32768) -> Loaded:
    """A model as servers run it."""
    numbers = getattr(torch, dtype)
    operators = BatchInvariantOperators(STEP_ROWS)
    loaded = load_model(folder, numbers, device, operators=operators)
    padding = batch_invariant(numbers, STEP_ROWS)
    return Loaded(loaded, make_runner(loaded, padding, dtype, kv_tokens), operators)
