"""An output that is measured and lost on the way: said, as the time until it goes on counts."""

import asyncio
import contextlib

import pytest

from paceline.client import Client
from paceline.protocol.generation import Speculation
from paceline_tools.bench.samples import Prompt
from paceline_tools.bench.variants import Served
from tests.contract.test_lost_generate import SECONDS, stalled
from tests.servers import eventually


async def test_whose_output_is_tried_again_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    service, server, port = await stalled()
    said: list[str] = []

    async def told() -> bool:
        said.append(capsys.readouterr().err)
        return "trying again" in "".join(said)

    async with Client(f"127.0.0.1:{port}") as client:
        variant = Served("target_only", client, Speculation.OFF, 0.0)
        running = asyncio.create_task(variant.run(Prompt("prose", "A long way to go"), 8))
        await asyncio.wait_for(service.gave.wait(), SECONDS)
        await server.stop(0)
        await eventually(told)
        running.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await running
    assert "paceline: target_only, 'A long way to go': " in "".join(said)
