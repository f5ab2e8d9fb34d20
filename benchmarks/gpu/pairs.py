"""Pairs without weights from anywhere: real work, and the acceptance that is asked for.

The target is random. Its layers behind the k-th add little to what its first k layers compute,
which are the draft. How little is tuned, until both pick the same token as often as stated, with
the sampler's shared noise at temperature 1.
"""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import LlamaConfig, LlamaForCausalLM

from benchmarks.gpu.shapes import Shape
from paceline.engine.torch.sampling.noise import gumbel, noise_hash

LOGIT_SPREAD = 3.0
"""Standard deviation of logits: enough for noise to leave a choice among many."""
CONTEXTS, LENGTH = 24, 64
"""Random texts, and their tokens, on which agreement is measured."""
HALVINGS = 9
_ROWS = 64


def make_pair(
    shape: Shape, agreements: tuple[float, ...], folder: Path, device: str, seed: int = 0
) -> dict[float, float]:
    """Write folder/draft and a folder/target-A for each agreement A; returns those measured."""
    torch.manual_seed(seed)
    model = _random_target(shape, device)
    draft_logits = _draft_logits(model, shape)
    _save_draft(model, shape, folder / "draft")
    found = {}
    for agreement in agreements:
        scale = _tuned(model, shape, draft_logits, agreement)
        with _baked(model, shape, scale):
            found[agreement] = _agreement(model, draft_logits)
            model.save_pretrained(folder / f"target-{agreement}")
    return found


def _random_target(shape: Shape, device: str) -> Any:
    config = _config(shape, shape.layers)
    with torch.device(device), torch.no_grad():
        before = torch.get_default_dtype()
        torch.set_default_dtype(getattr(torch, shape.dtype))
        try:
            model = LlamaForCausalLM(config).eval()
        finally:
            torch.set_default_dtype(before)
        for name, weight in model.named_parameters():
            if weight.dim() == 2:
                spread = 1.0 if "embed" in name else weight.shape[1] ** -0.5
                weight.normal_(std=spread * (LOGIT_SPREAD if "lm_head" in name else 1.0))
    return model


def _config(shape: Shape, layers: int) -> LlamaConfig:
    return LlamaConfig(
        vocab_size=shape.vocabulary,
        hidden_size=shape.width,
        intermediate_size=shape.mlp_width,
        num_hidden_layers=layers,
        num_attention_heads=shape.heads,
        num_key_value_heads=shape.kv_heads,
        max_position_embeddings=32768,
        tie_word_embeddings=False,
        bos_token_id=None,
        eos_token_id=None,
        pad_token_id=None,
    )


def _outer(model: Any, shape: Shape) -> Iterator[nn.Linear]:
    """What the layers behind the draft's add to the residual stream by."""
    for layer in model.model.layers[shape.draft_layers :]:
        yield layer.self_attn.o_proj
        yield layer.mlp.down_proj


@contextmanager
def _scaled(model: Any, shape: Shape, scale: float) -> Iterator[None]:
    """The later layers add so much of what they would."""
    hooks = [
        one.register_forward_hook(lambda _module, _inputs, output: output * scale)
        for one in _outer(model, shape)
    ]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


@contextmanager
def _baked(model: Any, shape: Shape, scale: float) -> Iterator[None]:
    """Likewise, in the weights themselves."""
    before = [one.weight.detach().clone() for one in _outer(model, shape)]
    for one in _outer(model, shape):
        one.weight.data.mul_(scale)
    try:
        yield
    finally:
        for one, weight in zip(_outer(model, shape), before, strict=True):
            one.weight.data.copy_(weight)


def _tuned(model: Any, shape: Shape, draft_logits: Tensor, agreement: float) -> float:
    """The scale with this agreement, by halving its logarithm's range."""
    low, high = math.log(1e-3), math.log(10.0)
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        with _scaled(model, shape, math.exp(middle)):
            more = _agreement(model, draft_logits) > agreement
        low, high = (middle, high) if more else (low, middle)
    return math.exp((low + high) / 2)


@torch.inference_mode()
def _logits(model: Any) -> Tensor:
    """Of fixed random texts, [rows, vocabulary]."""
    generator = torch.Generator().manual_seed(1)
    size = (CONTEXTS, LENGTH)
    tokens = torch.randint(model.config.vocab_size, size, generator=generator).to(model.device)
    rows = [model(input_ids=part, use_cache=False).logits.flatten(0, 1) for part in tokens.split(4)]
    return torch.cat(rows)


def _draft_logits(model: Any, shape: Shape) -> Tensor:
    layers = model.model.layers
    model.model.layers = layers[: shape.draft_layers]
    try:
        return _logits(model)
    finally:
        model.model.layers = layers


def _agreement(model: Any, draft_logits: Tensor) -> float:
    """How often target and draft pick the same token."""
    target_logits, same = _logits(model), 0
    for start in range(0, len(draft_logits), _ROWS):
        rows = slice(start, start + _ROWS)
        count = len(draft_logits[rows])
        seeds = [(7, position) for position in range(start, start + count)]
        noise = gumbel(noise_hash(seeds, draft_logits.shape[1], draft_logits.device))
        target, draft = (
            (logits[rows].double() + noise).argmax(1) for logits in (target_logits, draft_logits)
        )
        same += int((target == draft).sum())
    return same / len(draft_logits)


def _save_draft(model: Any, shape: Shape, folder: Path) -> None:
    kept = {
        name: weight
        for name, weight in model.state_dict().items()
        if not name.startswith("model.layers.") or int(name.split(".")[2]) < shape.draft_layers
    }
    with torch.device("meta"):
        draft = LlamaForCausalLM(_config(shape, shape.draft_layers))
    draft.load_state_dict(kept, assign=True)
    draft.save_pretrained(folder)
