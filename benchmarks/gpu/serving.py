"""A pair behind its servers: tokens a second of one stream and of eight, off and on."""

import asyncio
import os
import socket
import statistics
import time
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.gpu.options import GpuOptions
from benchmarks.gpu.shapes import Shape
from paceline.client import Client, Result
from paceline.protocol.generation import GenerateRequest, Speculation
from paceline.protocol.sampling import SamplingParams
from paceline_tools.cli.up_options import UpOptions
from paceline_tools.cli.up_servers import up_running
from paceline_tools.server_log import ServerLog
from paceline_tools.terminal import console

STREAMS = (1, 8)
MODES = {"off": Speculation.OFF, "auto": Speculation.AUTO}
TURNS = 3


async def measure_serving(
    options: GpuOptions, target: Path, draft: Path, draft_device: str, shape: Shape
) -> dict[str, Any]:
    """Off and auto in turn; medians, and how many tokens differ between them."""
    port = _free_port()
    up = UpOptions(
        target=[str(target)],
        draft=[str(draft)],
        draft_weights="bf16" if draft_device.startswith("cuda") else "int8",
        device=options.device,
        draft_device=draft_device,
        dtype=shape.dtype,
        threads=max(1, (os.cpu_count() or 2) // 2),
        port=port,
        kv_tokens=32768,
    )
    async with (
        up_running(up, ServerLog(console(stderr=True), "none")),
        Client(f"127.0.0.1:{port}") as client,
    ):
        await _all(client, options, shape, 1, Speculation.AUTO, seed=999)
        figures: dict[str, Any] = {}
        for streams in STREAMS:
            figures[str(streams)] = await _in_turn(client, options, shape, streams)
        return figures


async def _in_turn(
    client: Client, options: GpuOptions, shape: Shape, streams: int
) -> dict[str, Any]:
    speeds: dict[str, list[float]] = {name: [] for name in MODES}
    differing = verified = accepted = rounds = 0
    for turn in range(TURNS):
        results: dict[str, list[Result]] = {}
        for name in list(MODES)[:: -1 if turn % 2 else 1]:
            started = time.perf_counter()
            results[name] = await _all(
                client, options, shape, streams, MODES[name], seed=turn * 100
            )
            speeds[name].append(streams * options.tokens / (time.perf_counter() - started))
        differing += sum(
            a != b
            for off, auto in zip(results["off"], results["auto"], strict=True)
            for a, b in zip(off.token_ids, auto.token_ids, strict=True)
        )
        for one in results["auto"]:
            verified += one.finished.statistics.verified
            accepted += one.finished.statistics.accepted
            rounds += one.finished.statistics.rounds
    medians = {f"{name}_tokens_per_second": statistics.median(one) for name, one in speeds.items()}
    speedups = [on / off for on, off in zip(speeds["auto"], speeds["off"], strict=True)]
    return {
        **medians,
        "speedup": statistics.median(speedups),
        "differing": differing,
        "acceptance_rate": accepted / max(1, verified),
        "verified_per_round": verified / max(1, rounds),
    }


async def _all(
    client: Client, options: GpuOptions, shape: Shape, streams: int, mode: Speculation, seed: int
) -> list[Result]:
    """Streams at once, each with a random prompt and a seed of its own."""
    rng = np.random.default_rng(seed)
    requests = [
        GenerateRequest(
            prompt=tuple(rng.integers(0, shape.vocabulary, options.prompt_tokens).tolist()),
            sampling=SamplingParams(temperature=1.0, top_k=0, top_p=1.0),
            seed=seed + at,
            max_tokens=options.tokens,
            speculation=mode,
        )
        for at in range(streams)
    ]
    return list(await asyncio.gather(*(client.generate(one).result() for one in requests)))


def _free_port() -> int:
    """A port that is free; those above it, for health and metrics, most likely are too."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])
