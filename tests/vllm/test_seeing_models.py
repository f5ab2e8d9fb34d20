"""Models that also see, served for text alone by three processes: vLLM's own tokens."""

import asyncio
from importlib.util import find_spec
from pathlib import Path

import pytest

from paceline.client import Client
from paceline.errors import InvalidArgument
from paceline.protocol.generation import ChatMessage, GenerateRequest, Speculation
from tests.processes import running, start
from tests.vllm.conftest import TOKENS, by_vllm
from tests.vllm.seeing_models import VOCABULARY, seeing_model
from tests.vllm.targets import EAGER, FLAGS, said

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(1800)]
PROMPTS = [(5, 6, 7, 8) * 6, tuple(range(40, 90)), (200,), tuple(range(0, 250, 7)) * 12]


@pytest.fixture(autouse=True)
def _vllm() -> None:
    pytest.importorskip("vllm", reason="vLLM is not installed; run: make e2e-vllm")


@pytest.mark.parametrize("model_type", ["smolvlm", "idefics3", "paligemma", "paddleocr_vl"])
async def test_a_model_that_sees_has_vllms_own_tokens_for_text(
    tmp_path: Path, model_type: str
) -> None:
    """The draft is the text part of the same model on our own engine, so it is mostly right."""
    model = seeing_model(tmp_path / "model", model_type)
    outputs, _ = by_vllm(model, PROMPTS)
    target = start(tmp_path, "target", *target_of(model))
    draft = start(tmp_path, "draft", "draft_server", f"--model={model}", "--threads=1")
    async with running(tmp_path, [target], [draft]) as (client, _):
        await assert_it_is_known(client)
        for speculation in (Speculation.OFF, Speculation.FORCE):
            found = await asyncio.gather(
                *(said(client, one, TOKENS, speculation) for one in PROMPTS)
            )
            assert [one.token_ids for one in found] == outputs
        assert sum(one.finished.statistics.accepted for one in found) > TOKENS
        sampled = [
            (await said(client, PROMPTS[1], TOKENS, speculation, temperature=0.9)).token_ids
            for speculation in (Speculation.OFF, Speculation.FORCE)
        ]
    assert sampled[0] == sampled[1]
    assert sampled[0] != outputs[1]


def target_of(model: Path) -> tuple[str, ...]:
    return ("target_server", f"--model={model}", *FLAGS, EAGER, "--dtype=float32")


async def assert_it_is_known(client: Client) -> None:
    """By what its text part has: the length of its context, its vocabulary, its template."""
    [model] = await client.models()
    assert (model.max_positions, model.vocabulary_size) == (1024, VOCABULARY)
    assert model.drafts == 1
    chat = await client.tokenize([ChatMessage("user", "hi")])
    assert chat == await client.tokenize("<|bos|>user\nhi<|eos|>\n<|bos|>assistant\n")
    too_long = GenerateRequest(tuple(range(200)) * 6, max_tokens=1)
    with pytest.raises(InvalidArgument, match="1024"):
        await client.generate(too_long).result()


def test_a_model_that_sees_with_torchvision_is_refused_without_it(tmp_path: Path) -> None:
    if find_spec("torchvision"):
        pytest.skip("torchvision is installed")
    model = seeing_model(tmp_path / "model", "qwen2_vl")
    target = start(tmp_path, "target", *target_of(model))
    assert target.popen.wait(900)
    [stopped] = [line for line in target.lines().splitlines() if '"stopped"' in line]
    assert f"vLLM cannot serve {model}: its code cannot be imported, as the log says; " in stopped
    assert "torchvision is not installed" in stopped
