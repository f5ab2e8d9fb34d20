"""The parts of the day, each a process of its own: what one of them breaks the others keep."""

import asyncio
import platform
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from benchmarks.gpu.decoding import STEP_ROWS, Streams, load
from benchmarks.gpu.options import GpuOptions
from benchmarks.gpu.pairs import make_pair
from benchmarks.gpu.products import measure_products
from benchmarks.gpu.shapes import SHAPES
from paceline.engine.torch.exactness.probe import probe

Figures = dict[str, Any]
BLOCKS = (0, 1, 3, 7)
"""Draft tokens beside a stream's own."""


def machine(options: GpuOptions, *_: str) -> Figures:
    """What it is, and how fast its memory is."""
    figures: Figures = {"torch": torch.__version__, "device": platform.processor() or "CPU"}
    if options.device.startswith("cuda"):
        properties = torch.cuda.get_device_properties(options.device)
        figures |= {"device": properties.name, "memory_bytes": properties.total_memory}
    return {**figures, "bytes_per_second": _bandwidth(options)}


def _bandwidth(options: GpuOptions) -> float:
    """Bytes read a second, the best of several sums over more than caches hold."""
    size = 2**31 if options.device.startswith("cuda") else 2**26
    data = torch.ones(size // 4, device=options.device)
    best = float("inf")
    for _ in range(6):
        _wait(options)
        started = time.perf_counter()
        data.sum()
        _wait(options)
        best = min(best, time.perf_counter() - started)
    return size / best


def _wait(options: GpuOptions) -> None:
    if options.device.startswith("cuda"):
        torch.cuda.synchronize()


def pair(options: GpuOptions, shape: str, *agreements: str) -> Figures:
    """Make it, and say how often target and draft agree."""
    wanted = tuple(float(one) for one in agreements)
    found = make_pair(SHAPES[shape], wanted, options.folder / shape, options.device)
    return {"agreement": {str(one): found[one] for one in wanted}, "bytes": SHAPES[shape].bytes}


def exact(options: GpuOptions, shape: str, agreement: str) -> Figures:
    """Whether rows are batch-invariant, in mixed batches and long contexts."""
    one, folder = SHAPES[shape], options.folder / shape / f"target-{agreement}"
    loaded = load(folder, options.device, one.dtype)
    # The largest step that is probed is as long as the context.
    steps = {min(STEP_ROWS, options.probe_positions), options.probe_positions}
    differing = [
        f"{name}, {rows} rows a step"
        for rows in sorted(steps)
        for name in probe(loaded.runner, one.vocabulary, options.probe_positions, rows).differing
    ]
    differing += loaded.operators.varying
    pieces = loaded.operators.numerics.splitlines()
    return {"row_exact": not differing, "differing": differing, "row_pieces": pieces}


def greedy(options: GpuOptions, shape: str, agreement: str) -> Figures:
    """Greedy tokens of transformers in float32 on the device, and ours."""
    folder = options.folder / shape / f"target-{agreement}"
    runner = load(folder, options.device, "float32", kv_tokens=8192).runner
    streams = Streams(runner, 2, options.prompt_tokens, SHAPES[shape].vocabulary, 0.0)
    for _ in range(options.tokens):
        streams.step()
    del runner
    model = _transformers(folder, "float32", options)
    prompt = options.prompt_tokens
    found = [one[prompt:] for one in streams.tokens]
    pairs = [
        pair
        for one, whole in zip(found, streams.tokens, strict=True)
        for pair in zip(one, _generate(model, whole[:prompt], options)[0], strict=True)
    ]
    return {"tokens": len(pairs), "differing": sum(a != b for a, b in pairs)}


def products(options: GpuOptions, shape: str) -> Figures:
    """What each product of a step takes, of the device's library and of our tiles."""
    return {"products": measure_products(options, SHAPES[shape])}


def steps(options: GpuOptions, shape: str, agreement: str) -> Figures:
    """What steps take, the least that memory allows, transformers' generate beside."""
    one, folder = SHAPES[shape], options.folder / shape / f"target-{agreement}"
    runner = load(folder, options.device, one.dtype).runner
    figures: Figures = {"weight_bytes": one.bytes - _embedding_bytes(shape)}
    for count in (1, 8):
        streams = Streams(runner, count, options.prompt_tokens, one.vocabulary, 1.0)
        for drafts in BLOCKS:
            figures[f"step_seconds_{count}x{1 + drafts}"] = _median_step(streams, drafts, options)
    streams = Streams(runner, 1, options.prompt_tokens, one.vocabulary, 1.0)
    figures["profile"] = _profile(streams, options)
    del runner, streams
    model = _transformers(folder, one.dtype, options)
    tokens = list(range(options.prompt_tokens))
    _generate(model, tokens, options)
    _, seconds = _generate(model, tokens, options)
    figures["transformers_seconds_per_token"] = seconds / options.tokens
    return figures


def _embedding_bytes(shape: str) -> int:
    """Which a step does not read."""
    one = SHAPES[shape]
    return one.vocabulary * one.width * (4 if one.dtype == "float32" else 2)


def _median_step(streams: Streams, drafts: int, options: GpuOptions) -> float:
    for _ in range(4):
        streams.step(drafts)
    return statistics.median(streams.step(drafts) for _ in range(options.steps))


def _profile(streams: Streams, options: GpuOptions) -> list[str]:
    """What takes the time of a step: operators and kernels, the longest first."""
    from torch.profiler import ProfilerActivity, profile

    activities = [ProfilerActivity.CPU]
    if options.device.startswith("cuda"):
        activities.append(ProfilerActivity.CUDA)
    for _ in range(3):
        streams.step()
    with profile(activities=activities) as profiled:
        for _ in range(3):
            streams.step()
    by = "self_cuda_time_total" if len(activities) > 1 else "self_cpu_time_total"
    averages: Any = profiled.key_averages()
    table: str = averages.table(sort_by=by, row_limit=15, max_name_column_width=60)
    return table.splitlines()


def _transformers(folder: Path, dtype: str, options: GpuOptions) -> Any:
    from transformers import AutoModelForCausalLM

    model: Any = AutoModelForCausalLM.from_pretrained(folder, dtype=getattr(torch, dtype))
    return model.to(options.device).eval()


def _generate(model: Any, tokens: list[int], options: GpuOptions) -> tuple[list[int], float]:
    """Its greedy tokens, and the seconds they took."""
    ids = torch.tensor([tokens], device=options.device)
    started = time.perf_counter()
    output = model.generate(
        ids,
        attention_mask=torch.ones_like(ids),
        max_new_tokens=options.tokens,
        do_sample=False,
        pad_token_id=0,
    )
    _wait(options)
    return output[0, len(tokens) :].tolist(), time.perf_counter() - started


def serving(options: GpuOptions, shape: str, agreement: str, draft_device: str) -> Figures:
    """Orchestrator, target and draft as processes: speculation off and on, 1 and 8 streams."""
    # What only servers need, and lacks, fails no other part.
    from benchmarks.gpu.serving import measure_serving

    folder = options.folder / shape
    target, draft = folder / f"target-{agreement}", folder / "draft"
    measured = measure_serving(options, target, draft, draft_device, SHAPES[shape])
    return {"streams": asyncio.run(measured)}


PARTS: dict[str, Callable[..., Figures]] = {
    "machine": machine,
    "pair": pair,
    "exact": exact,
    "greedy": greedy,
    "products": products,
    "steps": steps,
    "serving": serving,
}
