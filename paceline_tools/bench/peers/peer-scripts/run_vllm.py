"""vLLM as it is, to be compared with: alone, or speculating with a draft model."""

import argparse
import contextlib
import itertools
import os
import time
from collections.abc import Iterator
from typing import Any

from answering import CONTEXT, DRAFT_TOKENS, Answer, serve

MODES: dict[str, dict[str, Any] | None] = {
    "alone": None,
    "draft": {"method": "draft_model", "num_speculative_tokens": DRAFT_TOKENS},
}

KV_BYTES = 512 << 20
"""For one output: the models of all that is compared have to fit."""


@contextlib.contextmanager
def loaded(options: argparse.Namespace) -> Iterator[Answer]:
    """The engine in this process, as a server would have it in another."""
    os.environ.setdefault("VLLM_ENABLE_V1_MULTIPROCESSING", "0")
    # What vLLM binds threads by is not read in one process.
    os.environ.setdefault("OMP_NUM_THREADS", str(options.threads))
    from vllm import LLM

    speculation = MODES[options.mode]
    if options.mode == "draft":
        speculation = {**(speculation or {}), "model": options.draft}
    model = LLM(
        options.target,
        dtype=options.dtype,
        max_model_len=CONTEXT,
        max_num_seqs=4,
        enable_prefix_caching=False,
        speculative_config=speculation,
        kv_cache_memory_bytes=KV_BYTES,
    )
    names = map(str, itertools.count())
    yield lambda ids, count: _answer(model.llm_engine, next(names), ids, count)


def _answer(engine: Any, name: str, ids: list[int], count: int) -> tuple[list[int], list[float]]:
    from vllm import SamplingParams

    sampling = SamplingParams(temperature=0, max_tokens=count, ignore_eos=True, detokenize=False)
    tokens: list[int] = []
    seconds: list[float] = []
    started = time.perf_counter()
    engine.add_request(name, {"prompt_token_ids": ids}, sampling)
    while engine.has_unfinished_requests():
        for output in engine.step():
            tokens = list(output.outputs[0].token_ids)
            seconds += [time.perf_counter() - started] * (len(tokens) - len(seconds))
    return tokens, seconds


if __name__ == "__main__":
    serve(__doc__ or "", tuple(MODES), loaded)
