"""What the doctor is told by real servers: memory, and names that do not resolve."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from prometheus_client import CollectorRegistry
from safetensors.torch import load_file

from paceline.engine.interfaces import StartedEngine
from paceline.engine.start import start
from paceline.engine.torch.linear import can_prepack
from paceline.protocol.status import Role
from paceline_tools.cli.diagnosis import diagnose
from paceline_tools.cli.findings import Level
from target_server.settings import TargetSettings
from tests import servers
from tests.tiny_models import tiny_model

NOWHERE = "nowhere.invalid:7072"


async def test_memory_is_that_of_the_files_and_of_the_kv(tmp_path: Path) -> None:
    folder = tiny_model(tmp_path / "model", dtype="bfloat16")
    tensors = load_file(folder / "model.safetensors")
    stored = sum(tensor.nbytes for tensor in tensors.values())
    dense = {name: one for name, one in tensors.items() if one.ndim == 2 and "embed" not in name}
    async with (
        servers.target(folder, dtype="bfloat16", allow_inexact=True) as target,
        servers.draft(folder, dtype="bfloat16", weights="int8", drafter="model") as draft,
    ):
        plain, quantized = target.started.model, draft.started.model
    assert plain.memory is not None
    assert quantized.memory is not None
    assert plain.memory.weight_bytes == quantized.memory.weight_bytes == stored
    assert plain.memory.quantized_bytes == 0
    if can_prepack(torch.zeros(2, 2, dtype=torch.bfloat16)):
        codes = sum(one.numel() for one in dense.values())
        scales = sum(2 * one.shape[0] for one in dense.values())
        assert quantized.memory.quantized_bytes == codes + scales
    heads = tensors["model.layers.0.self_attn.k_proj.weight"].shape[0]
    layers = 1 + max(int(name.split(".")[2]) for name in tensors if ".layers." in name)
    assert plain.memory.kv_token_bytes == 2 * 2 * heads * layers


async def test_a_name_that_does_not_resolve_is_told_with_its_pool() -> None:
    async with (
        servers.target("simulated:step_ms=1") as target,
        servers.orchestrator([target.address], [f"far={NOWHERE}"], expect_drafts=0) as client,
    ):

        async def known() -> bool:
            return bool((await client.status()).unresolved)

        await servers.eventually(known)
        status = await client.status()
    [name] = status.unresolved
    assert (name.role, name.pool, name.name) == (Role.DRAFT, "far", NOWHERE)
    [found] = [one for one in diagnose(status, "x") if one.subject == f"name {NOWHERE}"]
    assert found.what.startswith("does not resolve: ")
    assert "--draft or PACELINE_ORCHESTRATOR_DRAFT has it, in its pool far" in found.advice
    [memory] = [one for one in diagnose(status, "x") if one.subject.startswith("memory of target")]
    assert "streams of" in memory.what


async def test_where_rows_are_not_exact_doctor_and_models_promise_less(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def inexact(settings: TargetSettings, registry: CollectorRegistry) -> StartedEngine:
        started = start(settings, registry)
        return replace(started, model=replace(started.model, batch_invariant=False))

    monkeypatch.setattr(servers, "start", inexact)
    async with (
        servers.target("simulated:step_ms=1") as target,
        servers.orchestrator([target.address], []) as client,
    ):
        [model] = await client.models()
        status = await client.status()
    assert model.equal_up_to_rounding
    [found] = [one for one in diagnose(status, "x") if one.subject == f"target {target.address}"][
        1:
    ]
    assert found.what == "its rows are not exact: outputs are equal up to floating point"
    assert found.level is Level.NOTE
