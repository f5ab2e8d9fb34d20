"""An orchestrator without a target is alive and not ready: a wrong name does not go green."""

import json
import signal
from functools import partial
from pathlib import Path
from typing import Any

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from paceline.client import Client
from paceline.protocol.generation import GenerateRequest
from paceline.rpc.channels import open_channel
from tests.processes import Process, logged, start
from tests.servers import eventually

NAMES = ("paceline.v1.GenerationService", "paceline.v1.StatusService")
SERVING = health_pb2.HealthCheckResponse.SERVING


async def serves(process: Process, name: str = NAMES[0]) -> bool:
    """Whether its health says so of a service; False while nobody answers."""
    async with open_channel(process.address) as channel:
        stub: Any = health_pb2_grpc.HealthStub(channel)
        try:
            answer = await stub.Check(health_pb2.HealthCheckRequest(service=name), timeout=5)
        except grpc.aio.AioRpcError:
            return False
        return bool(answer.status == SERVING)


def reasons(process: Process) -> list[str]:
    """Why it was not ready, one time after the other."""
    lines = [json.loads(line) for line in process.lines().splitlines()]
    return [line["reason"] for line in lines if line["event"] == "not ready"]


def ended(*processes: Process) -> None:
    for process in processes:
        process.popen.kill()
        process.popen.wait()


async def test_a_draft_in_place_of_a_target_is_none(tmp_path: Path) -> None:
    draft = start(tmp_path, "draft", "draft_server", "--model=simulated:step_ms=1")
    orchestrator = start(tmp_path, "mistaken", "orchestrator", f"--target={draft.address}")
    try:
        await eventually(lambda: serves(draft, "paceline.v1.DraftService"))
        await eventually(lambda: logged(orchestrator, "it does not serve"))
        assert not await serves(orchestrator)
        async with Client(orchestrator.address, retries=0) as client:
            assert await client.models() == []
    finally:
        ended(draft, orchestrator)
    assert "draft.sock: it does not serve paceline.v1.TargetService" in reasons(orchestrator)[-1]


async def test_it_is_ready_once_its_target_is(tmp_path: Path) -> None:
    wrong = start(tmp_path, "wrong", "orchestrator", "--target=paceline-traget.invalid:7071")
    right = start(tmp_path, "right", "orchestrator", f"--target=unix:{tmp_path}/target.sock")
    started = [wrong, right]
    try:
        for process in started:
            await eventually(partial(logged, process, '"not ready"'))
            assert await serves(process, "")
            assert not any([await serves(process, name) for name in NAMES])
        await eventually(lambda: logged(wrong, "does not resolve"))
        target = start(tmp_path, "target", "target_server", "--model=simulated:step_ms=1")
        started.append(target)
        await eventually(lambda: serves(right))
        assert await logged(right, '"ready"')
        async with Client(right.address, retries=0) as client:
            result = await client.generate(GenerateRequest("x", max_tokens=3)).result()
            assert len(result.token_ids) == 3
        target.signal(signal.SIGKILL)
        await eventually(lambda: logged(right, '"server lost"'))
        assert await serves(right)  # for a while: streams wait for it, too
        assert await serves(wrong, "")
        assert not await serves(wrong)
        assert not await logged(wrong, '"ready"')
    finally:
        ended(*started)
    assert "paceline-traget.invalid:7071 does not resolve" in reasons(wrong)[-1]
    assert "target.sock" in reasons(right)[0]
