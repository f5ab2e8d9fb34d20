"""LoRA adapters and quantized weights, made on the spot: served by vLLM, or refused by it."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from paceline.client import Result
from paceline.protocol.generation import Speculation
from tests import servers
from tests.processes import start
from tests.vllm import made_models
from tests.vllm.quantized_models import FORMATS, quantized, shortfall
from tests.vllm.targets import EAGER, FLAGS, Targets, said, tiny_model

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(1800)]
TOKENS = 32
PROMPT = (5, 6, 7, 8) * 6
ROUNDING = 0.5
"""Most that a greedy token's logit is below the best, in standard deviations, where only rounding
differs, of activations to 8 bits as well. Tokens of other weights are 3 below and more."""
AMX = torch.cpu.get_capabilities().get("amx_tile", False)
NO_AMX = (
    "ValueError: Failed to find a kernel that can implement the ScaledMM linear layer. "
    "Reasons: CPUFp8W8A8BlockScaledMMKernel requires AMX tile support"
)
IT_HAS = "with AMX vLLM has a kernel for blocks"


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_model(tmp_path_factory.mktemp("model"), "qwen2", dtype="float32")


@pytest.fixture(scope="module")
def targets(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Targets]:
    pytest.importorskip("vllm", reason="vLLM is not installed; run: make e2e-vllm")
    targets = Targets(tmp_path_factory.mktemp("t"))
    yield targets
    targets.close()


async def results(targets: Targets, model: Path, drafts: Path, **settings: Any) -> list[Result]:
    """Greedily and sampled, each with forced speculation and without. drafts: another model."""
    async with (
        targets.target(model, **settings) as target,
        servers.draft(drafts) as draft,
        servers.orchestrator([target.address], [draft.address]) as client,
    ):
        return [
            await said(client, PROMPT, TOKENS, speculation, temperature)
            for temperature in (0.0, 0.9)
            for speculation in (Speculation.OFF, Speculation.FORCE)
        ]


async def test_an_adapter_says_what_the_model_with_it_in_its_weights_says(
    targets: Targets, model: Path, tmp_path: Path
) -> None:
    lora = made_models.adapter(model, tmp_path / "lora")
    merged = made_models.merged(model, lora, tmp_path / "merged")
    adapted = [one.token_ids for one in await results(targets, model, merged, adapter=lora)]
    assert adapted == [one.token_ids for one in await results(targets, merged, model)]
    assert adapted != [one.token_ids for one in await results(targets, model, model)]
    assert adapted[0] == adapted[1]
    assert adapted[2] == adapted[3]


@pytest.mark.parametrize("name", ["int8", "float8", "awq", "gptq"])
async def test_a_quantized_model_is_served_in_its_own_bits(
    targets: Targets, model: Path, tmp_path: Path, name: str
) -> None:
    form = FORMATS[name]
    made = quantized(model, tmp_path, form)
    found = await results(targets, made.folder, made.meant, dtype="bfloat16")
    assert [len(one.token_ids) for one in found] == [TOKENS] * 4
    assert all(one.finished.statistics.accepted for one in found[1::2])
    assert shortfall(made.meant, PROMPT, found[0].token_ids) < ROUNDING
    [process] = [
        one for one in targets.processes.values() if str(made.folder) in str(one.popen.args)
    ]
    assert f'"weights": "{form.says["quant_method"]}"' in process.lines()
    if '"batch_invariant": true' in process.lines():
        assert [one.token_ids for one in found[::2]] == [one.token_ids for one in found[1::2]]


@pytest.mark.parametrize(
    ("name", "width", "flags", "reason"),
    [
        ("fp8", 64, [], "this build of vLLM leaves out the kernel static_scaled_fp8_quant; "),
        pytest.param("fp8-blocks", 256, [], NO_AMX, marks=pytest.mark.skipif(AMX, reason=IT_HAS)),
        ("awq", 64, ["--dtype=float32"], "torch.float32 is not supported for quantization method"),
        ("gptq", 64, ["--dtype=float32"], "torch.float32 is not supported for quantization method"),
        ("gptq-by-activation", 64, [], "GPTQ group activation ordering (desc_act=True) is no "),
    ],
    ids=["fp8", "fp8 in blocks", "awq in float32", "gptq in float32", "gptq by activation"],
)
def test_quantized_weights_that_vllm_refuses_on_a_cpu_are_refused_with_the_reason(
    tmp_path: Path, name: str, width: int, flags: list[str], reason: str
) -> None:
    pytest.importorskip("vllm", reason="vLLM is not installed; run: make e2e-vllm")
    model = tiny_model(tmp_path / "model", "qwen2", dtype="float32", width=width)
    made = quantized(model, tmp_path, FORMATS[name])
    target = start(
        tmp_path, "target", "target_server", f"--model={made.folder}", *FLAGS, EAGER, *flags
    )
    assert target.popen.wait(900)
    [stopped] = [line for line in target.lines().splitlines() if '"stopped"' in line]
    assert f"vLLM cannot serve {made.folder}: {reason}" in stopped


def test_weights_that_vllm_does_not_know_are_refused_in_its_words(
    model: Path, tmp_path: Path
) -> None:
    pytest.importorskip("vllm", reason="vLLM is not installed; run: make e2e-vllm")
    unknown = made_models.unknown_quantization(model, tmp_path / "unknown")
    target = start(tmp_path, "target", "target_server", f"--model={unknown}", *FLAGS, EAGER)
    assert target.popen.wait(900)
    assert f"vLLM cannot serve {unknown}: " in target.lines()
    assert "Unknown quantization method: exl9" in target.lines()


def test_heads_that_vllm_has_no_kernel_for_are_refused_in_its_words(tmp_path: Path) -> None:
    pytest.importorskip("vllm", reason="vLLM is not installed; run: make e2e-vllm")
    model = tiny_model(tmp_path / "model", "qwen2", heads=(4, 2))
    target = start(tmp_path, "target", "target_server", f"--model={model}", *FLAGS, EAGER)
    assert target.popen.wait(900)
    assert f"vLLM cannot serve {model}: " in target.lines()
    assert "Unsupported CPU attention configuration: head_dim=16" in target.lines()
