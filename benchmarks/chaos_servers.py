"""Servers that are killed, stopped and cut off: each behind a faulty wire, and started anew."""

import asyncio
import contextlib
import enum
import math
import os
import signal
import sys
import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
from grpc_health.v1 import health_pb2, health_pb2_grpc

from benchmarks.faulty_wire import FaultyWire, faulty
from paceline.rpc.channels import open_channel
from paceline.rpc.codec.model import model_info_from_proto
from paceline.rpc.codec.session import load_from_proto
from paceline.v1 import model_pb2, model_pb2_grpc
from paceline_tools.local_servers import GRPC_EXPERIMENTS

READY_SECONDS = 60.0
SERVICES = {
    "target": "paceline.v1.TargetService",
    "draft": "paceline.v1.DraftService",
    "orchestrator": "paceline.v1.GenerationService",
}
FLAGS = ("--host=127.0.0.1", "--health-port=0", "--metrics-port=0", "--log-level=info")


class Fault(enum.Enum):
    """What happens to a server."""

    KILL = "kill"
    TERMINATE = "terminate"
    STOP = "stop"
    LOST_REQUESTS = "lost requests"
    LOST_ANSWERS = "lost answers"
    LOST_BOTH = "lost both"
    CUT = "cut connections"


ENDS = (Fault.KILL, Fault.TERMINATE)
"""After these a process is another one."""
OF_PROCESSES = (*ENDS, Fault.STOP)


@dataclass
class Server:
    """A server of some role behind a wire.

    memory: (when, bytes), NaN between two processes. began: when this process did.
    """

    role: str
    number: int
    command: list[str]
    folder: Path
    wire: FaultyWire
    process: asyncio.subprocess.Process | None = None
    memory: list[tuple[float, float]] = field(default_factory=list)
    began: float = 0.0

    @property
    def name(self) -> str:
        """Its role and number."""
        return f"{self.role}-{self.number}"

    @property
    def socket(self) -> Path:
        """Where it listens, behind the wire."""
        return self.folder / f"{self.name}.sock"

    async def start(self) -> None:
        """Start its process; see ready."""
        self.socket.unlink(missing_ok=True)
        self.began = time.monotonic()
        self.memory.append((self.began, math.nan))
        with (self.folder / f"{self.name}.log").open("ab") as log:
            self.process = await asyncio.create_subprocess_exec(
                *(sys.executable, *self.command, f"--socket={self.socket}", *FLAGS),
                stderr=log,
                start_new_session=True,
                env={"GRPC_EXPERIMENTS": GRPC_EXPERIMENTS, **os.environ},
            )

    async def ready(self) -> None:
        """Wait until it serves."""
        async with asyncio.timeout(READY_SECONDS):
            while not await self._serves():  # noqa: ASYNC110 - another process has no event
                await asyncio.sleep(0.05)

    async def _serves(self) -> bool:
        async with open_channel(f"unix:{self.socket}") as channel:
            request = health_pb2.HealthCheckRequest(service=SERVICES[self.role])
            stub: Any = health_pb2_grpc.HealthStub(channel)
            try:
                answer = await stub.Check(request, timeout=1.0)
            except Exception:
                return False
            return bool(answer.status == health_pb2.HealthCheckResponse.SERVING)

    async def left_over(self) -> tuple[int, int]:
        """Sessions and pages of KV that a draft or target holds."""
        async with open_channel(f"unix:{self.socket}") as channel:
            stub = model_pb2_grpc.ModelServiceStub(channel)
            answer = await stub.GetModelInfo(model_pb2.GetModelInfoRequest(), timeout=5.0)
        model_info_from_proto(answer.model)
        load = load_from_proto(answer.load)
        return load.sessions + load.waiting, load.kv_pages_used

    def measure(self, now: float) -> None:
        """Note its memory."""
        if self.process is not None and self.process.returncode is None:
            with contextlib.suppress(psutil.Error):
                self.memory.append((now, psutil.Process(self.process.pid).memory_info().rss))

    def signal(self, number: signal.Signals) -> None:
        """Send it a signal, if it runs."""
        if self.process is not None and self.process.returncode is None:
            self.process.send_signal(number)

    async def suffer(self, fault: Fault, seconds: float) -> None:
        """Have the fault, for so long where it passes; then be whole again."""
        if fault in ENDS:
            self.signal(signal.SIGKILL if fault is Fault.KILL else signal.SIGTERM)
            await self._ended()
            await self.start()
        elif fault is Fault.CUT:
            self.wire.cut()
        elif fault is Fault.STOP:
            self.signal(signal.SIGSTOP)
            await asyncio.sleep(seconds)
            self.signal(signal.SIGCONT)
        else:
            up, down = fault is not Fault.LOST_ANSWERS, fault is not Fault.LOST_REQUESTS
            self.wire.stall(up=up, down=down)
            await asyncio.sleep(seconds)
            self.wire.heal()
            self.wire.cut()  # as TCP gives up what it could not deliver
        await self.ready()

    async def _ended(self) -> None:
        if self.process is not None:
            await self.process.wait()

    async def end(self) -> None:
        """Kill it."""
        self.signal(signal.SIGCONT)
        self.signal(signal.SIGKILL)
        await self._ended()


@contextlib.asynccontextmanager
async def servers(
    folder: Path, target: str, draft: str, drain_seconds: float = 2.0
) -> AsyncIterator[dict[str, list[Server]]]:
    """Two of each role, ready. target and draft: names of models."""
    drain = f"--drain-seconds={drain_seconds}"
    async with contextlib.AsyncExitStack() as stack:
        made: dict[str, list[Server]] = {}

        async def make(role: str, command: Sequence[str]) -> None:
            made[role] = []
            for number in (1, 2):
                wire = await stack.enter_async_context(
                    faulty(f"unix:{folder}/{role}-{number}.sock")
                )
                server = Server(role, number, [*command, drain], folder, wire)
                await server.start()
                stack.push_async_callback(server.end)
                made[role].append(server)

        await make("target", ["-m", "target_server", f"--model={target}"])
        await make("draft", ["-m", "draft_server", f"--model={draft}"])
        behind = {role: ",".join(one.wire.address for one in made[role]) for role in made}
        flags = [f"--target={behind['target']}", f"--draft={behind['draft']}"]
        await make("orchestrator", ["-m", "orchestrator", *flags])
        await asyncio.gather(*(one.ready() for some in made.values() for one in some))
        yield made
