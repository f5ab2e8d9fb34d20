"""The fused forward pass of Llama-family models: few, large operators.

The same computation as transformers' modules, with query, key and value as one linear layer,
gate and up as another, prepacked weights, and small operators fused where torch can. After
gpt-fast. All other models run as transformers has them (paceline.engine.torch.generic).
"""

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import PreTrainedModel

from paceline.engine.torch.attention import Spans, attend, attending
from paceline.engine.torch.linear import Linear, MakeLinear
from paceline.engine.torch.text_part import text_config

ARCHITECTURES = {
    "LlamaForCausalLM",
    "MistralForCausalLM",
    "Qwen2ForCausalLM",
    "Qwen3ForCausalLM",
}
BODIES = {
    *("LlamaModel", "MistralModel", "Qwen2Model", "Qwen3Model"),
    *("Qwen2VLTextModel", "Qwen2_5_VLTextModel", "Qwen3VLTextModel"),
}
"""Decoders of the same computation within models that also see or hear. Of text alone the three
position ids of a token are equal, so that their rotary embeddings are Qwen's own."""


def knows(model: PreTrainedModel) -> bool:
    """Whether FusedModel computes what `model` does."""
    config = text_config(model.config)
    if config is model.config:
        known = type(model).__name__ in ARCHITECTURES
    else:
        known = type(model.get_decoder()).__name__ in BODIES
    return known and config.hidden_act == "silu"


Normalize = Callable[..., Tensor]
"""As rms_norm."""


def rms_norm(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    """RMSNorm (Zhang and Sennrich 2019) of [..., width], in float32 as transformers does."""
    y = x.float()
    y = y * torch.rsqrt(y.square().mean(-1, keepdim=True).add_(eps))
    return y.to(x.dtype).mul_(weight)


@dataclass(frozen=True, slots=True)
class Layer:
    """One decoder layer's weights. Heads lie as query heads, key heads, value heads."""

    index: int
    window: int | None
    input_norm: Tensor
    qkv: Linear
    query_norm: Tensor | None
    key_norm: Tensor | None
    out: Linear
    mlp_norm: Tensor
    gate_up: Linear
    down: Linear


class FusedModel:
    """A causal language model as a function of a flat ragged batch."""

    def __init__(
        self,
        model: PreTrainedModel,
        make_linear: MakeLinear,
        silu: Callable[[Tensor], Tensor] = functional.silu,
        normalize: Normalize = rms_norm,
    ) -> None:
        """Take over the weights; the modules of `model` are emptied on the way.

        make_linear: makes a layer of a weight [out, in] and a bias [out] or None.
        """
        config = text_config(model.config)
        body: Any = model.get_decoder()
        head: Any = model.get_output_embeddings()
        self._heads = config.num_attention_heads
        self._kv_heads = config.num_key_value_heads
        self._head_dim = getattr(config, "head_dim", None) or config.hidden_size // self._heads
        self._normed = functools.partial(normalize, eps=config.rms_norm_eps)
        self._silu = silu
        self._embedding = body.embed_tokens.weight.detach()
        self._rotary = body.rotary_emb
        self._norm = body.norm.weight.detach()
        self._head = make_linear(head.weight.detach(), None)
        self._layers = []
        for index, layer in enumerate(body.layers):
            self._layers.append(fused_layer(index, layer, config, make_linear))
            body.layers[index] = nn.Identity()

    def __call__(self, tokens: Tensor, positions: Tensor, spans: Spans, wanted: Tensor) -> Tensor:
        """Logits [wanted, vocabulary] of rows `wanted`; tokens and positions are [rows]."""
        x = functional.embedding(tokens, self._embedding)
        with attending(spans):
            cos, sin = self._angles(x, positions)
        for layer in self._layers:
            x = x + self._attention(layer, self._normed(x, layer.input_norm), cos, sin, spans)
            gate, up = layer.gate_up(self._normed(x, layer.mlp_norm)).chunk(2, dim=1)
            x = x + layer.down(self._silu(gate).mul_(up))
        return self._head(self._normed(x[wanted], self._norm))

    def _attention(self, layer: Layer, x: Tensor, cos: Tensor, sin: Tensor, spans: Spans) -> Tensor:
        rows = x.shape[0]
        qkv = layer.qkv(x).view(rows, -1, self._head_dim)
        rotated = self._heads + self._kv_heads
        query_key = qkv[:, :rotated]
        if layer.query_norm is not None and layer.key_norm is not None:
            query_key = torch.cat(
                (
                    self._normed(query_key[:, : self._heads], layer.query_norm),
                    self._normed(query_key[:, self._heads :], layer.key_norm),
                ),
                dim=1,
            )
        query_key = _rotate(query_key, cos, sin).transpose(0, 1)
        value = qkv[:, rotated:].transpose(0, 1)
        query, key = query_key[: self._heads], query_key[self._heads :]
        attended = attend(layer.index, query, key, value, spans, self._head_dim**-0.5, layer.window)
        return layer.out(attended.view(rows, -1))

    def _angles(self, x: Tensor, positions: Tensor) -> tuple[Tensor, Tensor]:
        """Cosines, and sines signed for _rotate, [rows, 1, head_dim]."""
        cos, sin = self._rotary(x, positions[None])
        signed = sin[0].clone()
        signed[:, : self._head_dim // 2].neg_()
        return cos[0, :, None], signed[:, None]


def _window(config: Any, attention: Any) -> int | None:
    """Mistral slides in all layers; others say so layer by layer, or never do."""
    everywhere = config.sliding_window if config.model_type == "mistral" else None
    return getattr(attention, "sliding_window", everywhere)


def fused_layer(index: int, layer: Any, config: Any, make_linear: MakeLinear) -> Layer:
    """The weights of one of transformers' decoder layers. config: of the text."""
    attention, mlp = layer.self_attn, layer.mlp

    def fused(*linears: nn.Linear) -> Linear:
        weights = [linear.weight.detach() for linear in linears]
        biases = [linear.bias.detach() for linear in linears if linear.bias is not None]
        bias = torch.cat(biases) if len(biases) == len(linears) else None
        return make_linear(torch.cat(weights) if len(weights) > 1 else weights[0], bias)

    def norm(name: str) -> Tensor | None:
        module = getattr(attention, name, None)
        return None if module is None else module.weight.detach()

    return Layer(
        index=index,
        window=_window(config, attention),
        input_norm=layer.input_layernorm.weight.detach(),
        qkv=fused(attention.q_proj, attention.k_proj, attention.v_proj),
        query_norm=norm("q_norm"),
        key_norm=norm("k_norm"),
        out=fused(attention.o_proj),
        mlp_norm=layer.post_attention_layernorm.weight.detach(),
        gate_up=fused(mlp.gate_proj, mlp.up_proj),
        down=fused(mlp.down_proj),
    )


def _rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotary position embedding (Su et al. 2021) of [rows, heads, head_dim]."""
    return torch.addcmul(x * cos, x.roll(x.shape[-1] // 2, -1), sin)
