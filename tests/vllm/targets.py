"""Targets on vLLM in place of those on our own engine, for tests that know nothing of engines."""

import asyncio
import hashlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import grpc
from prometheus_client import CollectorRegistry

from paceline.client import Client, Result
from paceline.protocol.generation import GenerateRequest, Speculation
from paceline.protocol.sampling import SamplingParams
from paceline.protocol.session import Load
from paceline.rpc.codec.session import load_from_proto
from paceline.v1 import model_pb2, model_pb2_grpc
from tests import processes, tiny_models
from tests.processes import Process
from tests.servers import Server, eventually

START_SECONDS = 900.0
HEADS = (2, 1)
"""Of tiny models: vLLM's attention on a CPU has heads of 32 and more."""
FLAGS = ("--engine=vllm", "--threads=1")
EAGER = '--vllm-arguments={"enforce_eager": true}'
tiny_model = partial(tiny_models.tiny_model, heads=HEADS)


def start_engine(folder: Path, name: str, module: str, model: Path) -> Process:
    """As processes.start_engine, but that targets are on vLLM."""
    if module != "target_server":
        return processes.start_engine(folder, name, module, model)
    flags = (*FLAGS, EAGER, "--dtype=float32", "--model-name=tiny", "--log-level=debug")
    return processes.start(folder, name, module, f"--model={model}", *flags)


async def are_ready(targets: list[Process]) -> None:
    """Wait until they serve, which takes longer than on our own engine."""

    async def ready() -> bool:
        for one in targets:
            assert one.popen.poll() is None, one.lines()
        await asyncio.sleep(0.1)
        return all('"ready"' in one.lines() for one in targets)

    await eventually(ready, START_SECONDS)


class RemoteEngine:
    """What tests ask of the engine of a target in this process, asked of one in another."""

    def __init__(self, address: str) -> None:
        self._stub = model_pb2_grpc.ModelServiceStub(grpc.insecure_channel(address))

    @property
    def engine(self) -> "RemoteEngine":
        return self

    @property
    def load(self) -> Load:
        answer = self._stub.GetModelInfo(model_pb2.GetModelInfoRequest(), timeout=10)
        return load_from_proto(answer.load)


@dataclass
class Targets:
    """Processes, one for each model and settings; they stay, as each takes its time to start."""

    folder: Path
    processes: dict[str, Process] = field(default_factory=dict)

    @asynccontextmanager
    async def target(self, model: Path, **settings: Any) -> AsyncIterator[Server]:
        """In place of servers.target; it is float32 where the test says float64, or nothing."""
        dtype = settings.get("dtype", "float64").replace("float64", "float32")
        settings["dtype"] = dtype
        flags = [f"--{name.replace('_', '-')}={value}" for name, value in settings.items()]
        key = " ".join([_hash(model), *flags])
        if key not in self.processes:
            command = ("target_server", f"--model={model}", *FLAGS, EAGER, *flags)
            name = f"target-{len(self.processes)}"
            self.processes[key] = processes.start(self.folder, name, *command)
        process = self.processes[key]
        await are_ready([process])
        started: Any = RemoteEngine(process.address)
        yield Server(process.address, started, CollectorRegistry())

    def close(self) -> None:
        """End them."""
        for process in self.processes.values():
            process.popen.kill()
            process.popen.wait()


def _hash(model: Path) -> str:
    """Of all files: the same model, made again, is served by the same process."""
    digest = hashlib.sha256()
    for path in sorted(one for one in model.iterdir() if one.is_file()):
        digest.update(path.name.encode() + path.read_bytes())
    return digest.hexdigest()


async def said(
    client: Client,
    prompt: tuple[int, ...],
    tokens: int,
    speculation: Speculation,
    temperature: float = 0.0,
) -> Result:
    """What a target says behind a prompt, so many tokens of it."""
    request = GenerateRequest(
        prompt,
        sampling=SamplingParams(temperature=temperature),
        seed=2,
        max_tokens=tokens,
        ignore_eos=True,
        speculation=speculation,
    )
    return await client.generate(request).result()
