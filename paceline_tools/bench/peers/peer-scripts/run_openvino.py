"""OpenVINO GenAI as it is, to be compared with. Its models are in float16."""

import argparse
import contextlib
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import openvino
import openvino_genai
from answering import DRAFT_TOKENS, Answer, serve

PRECISIONS = {"bfloat16": "bf16", "float32": "f32"}


@contextlib.contextmanager
def loaded(options: argparse.Namespace) -> Iterator[Answer]:
    """A pipeline; in what it computes is asked for, as by itself it may take another."""
    device = {
        "INFERENCE_NUM_THREADS": options.threads,
        "INFERENCE_PRECISION_HINT": PRECISIONS[options.dtype],
    }
    more: dict[str, Any] = {}
    if options.mode == "draft":
        more = {"draft_model": openvino_genai.draft_model(options.draft, "CPU", **device)}
    pipeline = openvino_genai.LLMPipeline(options.target, "CPU", **device, **more)
    yield lambda ids, count: _answer(pipeline, _config(options.mode, count), ids)


def _config(mode: str, count: int) -> Any:
    config = openvino_genai.GenerationConfig()
    config.max_new_tokens = count
    config.ignore_eos = True
    config.do_sample = False
    if mode != "alone":
        config.num_assistant_tokens = DRAFT_TOKENS
    return config


def _answer(pipeline: Any, config: Any, ids: list[int]) -> tuple[list[int], list[float]]:
    prompt = np.array([ids], np.int64)
    mask = np.ones_like(prompt)
    clock = TokenClock()
    inputs = openvino_genai.TokenizedInputs(openvino.Tensor(prompt), openvino.Tensor(mask))
    pipeline.generate(inputs, config, clock)
    count = config.max_new_tokens
    return clock.tokens[:count], clock.seconds[:count]


class TokenClock(openvino_genai.StreamerBase):  # type: ignore[misc]
    """Notes when tokens come."""

    def __init__(self) -> None:
        """Start the clock."""
        super().__init__()
        self._started = time.perf_counter()
        self.tokens: list[int] = []
        self.seconds: list[float] = []

    def write(self, token: int | list[int]) -> Any:
        """Take what is new: a token, or several."""
        tokens = [token] if isinstance(token, int) else list(token)
        self.tokens += tokens
        self.seconds += [time.perf_counter() - self._started] * len(tokens)
        return openvino_genai.StreamingStatus.RUNNING

    def end(self) -> None:
        """Nothing is held back."""


if __name__ == "__main__":
    serve(__doc__ or "", ("alone", "draft"), loaded)
