"""The fused forward pass of Llama-family models: few, large operators.

The same computation as transformers' modules, with query, key and value as one linear layer,
gate and up as another, prepacked weights, and small operators fused where torch can. After
gpt-fast. All other models run as transformers has them (paceline.engine.torch.generic).
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import PreTrainedModel

from paceline.engine.torch.attention import Spans, attending
from paceline.engine.torch.layer_operators import LayerOperators
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
        operators: LayerOperators,
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
        self._operators = operators
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
        x, more = functional.embedding(tokens, self._embedding), None
        with attending(spans):
            cos, sin = self._angles(x, positions)
        for layer in self._layers:
            x, rows = self._added(x, more, layer.input_norm)
            more = self._attention(layer, rows, cos, sin, spans)
            x, rows = self._added(x, more, layer.mlp_norm)
            more = layer.down(self._operators.gate(layer.gate_up(rows)))
        _, rows = self._added(x[wanted], None if more is None else more[wanted], self._norm)
        return self._head(rows)

    def _added(self, x: Tensor, more: Tensor | None, norm: Tensor) -> tuple[Tensor, Tensor]:
        """X + more, and its RMSNorm."""
        if more is None:
            return x, self._operators.normalize(x, norm)
        return self._operators.add_and_normalize(x, more, norm)

    def _attention(self, layer: Layer, x: Tensor, cos: Tensor, sin: Tensor, spans: Spans) -> Tensor:
        qkv = layer.qkv(x).view(x.shape[0], -1, self._head_dim)
        rotated = self._heads + self._kv_heads
        query_key, value = qkv[:, :rotated], qkv[:, rotated:]
        if layer.query_norm is not None and layer.key_norm is not None:
            query_key = torch.cat(
                (
                    self._operators.normalize(query_key[:, : self._heads], layer.query_norm),
                    self._operators.normalize(query_key[:, self._heads :], layer.key_norm),
                ),
                dim=1,
            )
        query_key = self._operators.rotate(query_key, cos, sin)
        query, key = query_key[:, : self._heads], query_key[:, self._heads :]
        attended = self._operators.attend(layer.index, query, key, value, spans, layer.window)
        return layer.out(attended)

    def _angles(self, x: Tensor, positions: Tensor) -> tuple[Tensor, Tensor]:
        """As LayerOperators takes them."""
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
