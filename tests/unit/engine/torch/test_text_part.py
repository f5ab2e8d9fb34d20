"""Of models that also see or hear the text part alone is loaded, and answers as the whole does."""

from pathlib import Path

import pytest
import torch
from transformers import AutoConfig, PreTrainedModel

from paceline.engine.interfaces import Span
from paceline.engine.torch.fused import FusedModel
from paceline.engine.torch.loading import load_model
from paceline.engine.torch.padding import NO_PADDING
from paceline.engine.torch.runner import ModelRunner
from paceline.engine.torch.text_part import loader_of, text_config
from tests.tiny_architectures import tiny_architecture, whole_class

PROMPT, TOKENS = (5, 9, 33, 7, 21, 60, 4), 16


def greedy_of_transformers(folder: Path) -> list[int]:
    """What the whole model generates of text alone."""
    kind = whole_class(AutoConfig.from_pretrained(folder))
    model = kind.from_pretrained(folder, dtype=torch.float64).eval()
    found = model.generate(
        input_ids=torch.tensor([PROMPT]), max_new_tokens=TOKENS, do_sample=False, eos_token_id=None
    )
    return found[0, len(PROMPT) :].tolist()  # type: ignore[no-any-return]


def greedy(folder: Path) -> list[int]:
    loaded = load_model(folder, torch.float64)
    runner = ModelRunner(loaded.forward, loaded.device, NO_PADDING)
    cache = runner.new_cache(len(PROMPT) + TOKENS)
    output: list[int] = []
    given: tuple[int, ...] = PROMPT
    at = 0
    while len(output) < TOKENS:
        [row] = runner.forward([(cache, Span(at, given, 1))])
        at += len(given)
        output.append(int(row[0].argmax()))
        given = (output[-1],)
    return output


@pytest.mark.parametrize("model_type", ["gemma3", "gemma4", "llava", "qwen2_5_vl", "qwen3_vl"])
def test_greedy_text_is_that_of_the_whole_model(model_type: str, tmp_path: Path) -> None:
    tiny_architecture(model_type).save_pretrained(tmp_path)
    assert greedy(tmp_path) == greedy_of_transformers(tmp_path)


@pytest.mark.parametrize(
    ("model_type", "left_out"),
    [
        ("gemma3", ("model.vision_tower", "model.multi_modal_projector")),
        ("qwen3_vl", ("model.visual",)),
        ("voxtral", ("model.audio_tower", "model.multi_modal_projector")),
    ],
)
def test_no_weight_of_another_part_is_held(
    model_type: str, left_out: tuple[str, ...], tmp_path: Path
) -> None:
    whole = tiny_architecture(model_type)
    whole.save_pretrained(tmp_path)
    loader = loader_of(AutoConfig.from_pretrained(tmp_path))
    model: PreTrainedModel = loader.from_pretrained(tmp_path, dtype=torch.float64)
    assert model.left_out == left_out
    assert type(model).__name__ == type(whole).__name__
    held = dict(model.named_parameters())
    others = {name for name in dict(whole.named_parameters()) if name.startswith(left_out)}
    assert others
    assert held.keys() == dict(whole.named_parameters()).keys() - others


def test_a_decoder_of_llamas_kind_runs_fused_within_one_that_sees(tmp_path: Path) -> None:
    tiny_architecture("mistral3").save_pretrained(tmp_path)
    assert isinstance(load_model(tmp_path, torch.float64).forward, FusedModel)


def test_a_model_of_text_is_its_own_text_part() -> None:
    config = tiny_architecture("llama").config
    assert text_config(config) is config
