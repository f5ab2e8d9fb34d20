"""A draft server on an engine of prepared drafts, in real processes, prepared once."""

import asyncio
import json
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from paceline.engine.drafts.engines import ENGINES
from paceline.engine.drafts.measurements import notes_file, prepared_file, read_notes
from paceline.protocol.generation import GenerateRequest, Speculation
from tests.processes import Process, children_that_run, running, start, start_engine
from tests.servers import eventually
from tests.tiny_models import tiny_model

pytestmark = pytest.mark.slow


def draft(folder: Path, model: Path, *flags: str) -> Process:
    return start(folder, "draft", "draft_server", f"--model={model}", "--threads=1", *flags)


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PACELINE_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


@pytest.mark.parametrize("engine", ENGINES)
async def test_outputs_are_the_targets_and_draft_tokens_are_accepted(
    tmp_path: Path, home: Path, engine: str
) -> None:
    if reason := ENGINES[engine].why_not():
        pytest.skip(reason)
    model = tiny_model(tmp_path / "tiny", heads=(2, 1))
    target = start_engine(tmp_path, "target", "target_server", model)
    drafts = [draft(tmp_path, model, f"--engine={engine}")]
    async with running(tmp_path, [target], drafts) as (client, _):
        request = GenerateRequest("to the token " * 40, max_tokens=60, seed=3, ignore_eos=True)
        off = await client.generate(replace(request, speculation=Speculation.OFF)).result()
        forced = await client.generate(replace(request, speculation=Speculation.FORCE)).result()
        assert forced.token_ids == off.token_ids
        assert forced.finished.statistics.accepted > 0
    [ready] = [json.loads(line) for line in drafts[0].lines().splitlines() if "started" in line]
    assert ready["engine"] == engine
    assert prepared_file(model, engine).is_relative_to(home)
    [found] = read_notes(notes_file(model)).values()
    assert ready["reason"] == str(found)


async def test_who_insists_is_told_why_it_cannot_be(tmp_path: Path, home: Path) -> None:
    model = tiny_model(tmp_path / "tiny", "gemma")
    process = draft(tmp_path, model, "--engine=openvino")
    assert await asyncio.to_thread(process.popen.wait, 120) != 0
    assert "--engine openvino: model type 'gemma' is none of Llama's" in process.lines()
    assert not list(home.rglob("*.safetensors"))


async def test_a_server_that_is_killed_while_it_prepares_leaves_no_process(
    tmp_path: Path, home: Path
) -> None:
    process = draft(tmp_path, tiny_model(tmp_path / "tiny", heads=(2, 1)), "--engine=openvino")
    server = psutil.Process(process.popen.pid)
    preparation = "paceline.engine.drafts.preparation"
    try:
        await eventually(lambda: _runs(preparation, server))
        [child] = children_that_run(preparation, server)
    finally:
        process.popen.kill()
        process.popen.wait()
    await asyncio.to_thread(psutil.wait_procs, [child], 60)
    assert not child.is_running()


async def _runs(module: str, server: psutil.Process) -> bool:
    await asyncio.sleep(0.02)
    return bool(children_that_run(module, server))
