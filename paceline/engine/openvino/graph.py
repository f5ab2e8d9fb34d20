"""The forward pass of Llama-family models as a graph of OpenVINO, with its paged attention.

The operators of paged attention are OpenVINO's own and private to it, as openvino-genai uses them;
the release is pinned. Of their many inputs those that evict, rotate or score KV are left empty.
"""

from typing import Any

import numpy as np
import openvino as ov
from numpy.typing import NDArray
from openvino import Type, opset13
from openvino.op import _PagedAttentionExtension

from paceline.engine.openvino.shape import GROUP
from paceline.engine.prepared.draft_file import PreparedDraft

Node = Any
"""A node of the graph, or one of its outputs."""
ops: Any = opset13
INPUTS = {
    "position_ids": Type.i64,
    "wanted": Type.i64,
    "past_lens": Type.i32,
    "subsequence_begins": Type.i32,
    "block_indices": Type.i32,
    "block_indices_begins": Type.i32,
}
"""Rows' positions; rows whose logits are wanted; and of each session its KV and its rows."""


def build(draft: PreparedDraft) -> ov.Model:
    """Embeddings [rows, width] and where they lie in, logits [wanted, vocabulary] out."""
    return _Graph(draft).model()


class _Graph:
    def __init__(self, draft: PreparedDraft) -> None:
        self._shape, self._tensors = draft.shape, draft.tensors
        self._inputs = {name: _input(name, [-1], kind) for name, kind in INPUTS.items()}
        self._embeddings = _input("embeddings", [-1, self._width], Type.f32)
        self._longest = _input("max_context_len", [], Type.i32)
        self._caches: list[Node] = []
        self._cos, self._sin = self._angles()

    @property
    def _width(self) -> int:
        return int(self._tensors["norm"].shape[0])

    def model(self) -> ov.Model:
        x = self._embeddings
        for layer in range(len(self._shape.windows)):
            x = ops.add(x, self._attention(layer, self._normed(x, f"{layer}.input_norm")))
            x = ops.add(x, self._mlp(layer, self._normed(x, f"{layer}.mlp_norm")))
        rows = ops.gather(x, self._inputs["wanted"], _ints(0))
        logits = self._linear(self._normed(rows, "norm"), "head")
        logits.output(0).set_names({"logits"})
        given = [self._embeddings, *self._inputs.values(), self._longest, *self._caches]
        return ov.Model([logits], given, "draft")

    def _attention(self, layer: int, x: Node) -> Node:
        shape = self._shape
        widths = [shape.heads, shape.kv_heads, shape.kv_heads]
        qkv = self._linear(x, f"{layer}.qkv")
        parts = ops.variadic_split(qkv, _ints(1), _ints([n * shape.head_dim for n in widths]))
        query, key, value = parts.outputs()
        query = self._rotated(query, shape.heads, f"{layer}.query_norm")
        key = self._rotated(key, shape.kv_heads, f"{layer}.key_norm")
        return self._linear(self._attended(layer, query, key, value), f"{layer}.out")

    def _rotated(self, x: Node, heads: int, norm: str) -> Node:
        """Rotary position embedding (Su et al. 2021) of [rows, heads * head_dim]."""
        x = ops.reshape(x, _ints([-1, heads, self._shape.head_dim]), special_zero=False)
        if norm in self._tensors:
            x = self._normed(x, norm)
        first, second = ops.split(x, _ints(-1), 2).outputs()
        turned = ops.concat([ops.negative(second), first], -1)
        x = ops.add(ops.multiply(x, self._cos), ops.multiply(turned, self._sin))
        return ops.reshape(x, _ints([-1, heads * self._shape.head_dim]), special_zero=False)

    def _attended(self, layer: int, query: Node, key: Node, value: Node) -> Node:
        shape, where = self._shape, self._inputs
        caches = [
            _input(f"{kind}_cache.{layer}", [-1] * 4, Type.dynamic) for kind in ("key", "value")
        ]
        self._caches += caches
        none, nothing = _i32([]), _floats(np.zeros(0))
        given = [
            *(query, key, value, *caches, where["past_lens"], where["subsequence_begins"]),
            *(where["block_indices"], where["block_indices_begins"]),
            *(_floats(shape.head_dim**-0.5), _i32(shape.windows[layer]), nothing, self._longest),
            *(none, none, none, nothing, nothing, _i32(0), _i32(0)),
            *(_floats(np.zeros((0, 0, 0, 0))), _i32(0), none, none, none, none),
            *(ops.constant(np.zeros(0, np.uint8)), none),
        ]
        attention = _PagedAttentionExtension([_output(one) for one in given])
        said = attention.get_rt_info()
        said["k_head_size"] = said["v_head_size"] = shape.head_dim
        said["num_k_heads"] = said["num_v_heads"] = shape.kv_heads
        return attention.output(0)

    def _mlp(self, layer: int, x: Node) -> Node:
        both = ops.split(self._linear(x, f"{layer}.gate_up"), _ints(1), 2)
        gate, up = both.outputs()
        return self._linear(ops.multiply(ops.swish(gate), up), f"{layer}.down")

    def _normed(self, x: Node, name: str) -> Node:
        """RMSNorm (Zhang and Sennrich 2019)."""
        mean = ops.reduce_mean(ops.power(x, _floats(2.0)), _ints([-1]), keep_dims=True)
        root = ops.sqrt(ops.add(mean, _floats(self._shape.epsilon)))
        scaled = ops.multiply(x, ops.divide(_floats(1.0), root))
        return ops.multiply(scaled, _floats(self._tensors[name]))

    def _linear(self, x: Node, name: str) -> Node:
        y = ops.matmul(x, self._weight(name), transpose_a=False, transpose_b=True)
        bias = self._tensors.get(f"{name}.bias")
        return y if bias is None else ops.add(y, _floats(bias[None]))

    def _weight(self, name: str) -> Node:
        """[out, in], in 4 bits, in the form in which the CPU plugin keeps them so."""
        scales = self._tensors[f"{name}.scales"]
        out, groups, _ = scales.shape
        codes = _four_bits(self._tensors[f"{name}.codes"], [out, groups, GROUP])
        zeros = _four_bits(self._tensors[f"{name}.zeros"], [out, groups, 1])
        shifted = ops.subtract(ops.convert(codes, "f16"), ops.convert(zeros, "f16"))
        weight = ops.multiply(shifted, ops.constant(scales, Type.f16))
        flat = ops.reshape(weight, _ints([out, groups * GROUP]), special_zero=False)
        return ops.convert(flat, "f32")

    def _angles(self) -> tuple[Node, Node]:
        """Cosines and sines of all rows, [rows, 1, head_dim]."""
        positions = ops.unsqueeze(ops.convert(self._inputs["position_ids"], "f32"), _ints(1))
        half = ops.multiply(positions, _floats(self._tensors["inverse_frequencies"][None]))
        angles = ops.unsqueeze(ops.concat([half, half], 1), _ints(1))
        scaling = _floats(self._shape.rope_scaling)
        return ops.multiply(ops.cos(angles), scaling), ops.multiply(ops.sin(angles), scaling)


def _input(name: str, shape: list[int], kind: Type) -> Node:
    parameter = ops.parameter(shape, kind)
    parameter.set_friendly_name(name)
    parameter.output(0).set_names({name})
    return parameter


def _output(node: Node) -> Node:
    return node.output(0) if isinstance(node, ov.Node) else node


def _floats(values: Any) -> Node:
    return ops.constant(np.asarray(values, np.float32))


def _ints(values: Any) -> Node:
    return ops.constant(np.asarray(values, np.int64))


def _i32(values: Any) -> Node:
    return ops.constant(np.asarray(values, np.int32))


def _four_bits(packed: NDArray[np.uint8], shape: list[int]) -> Node:
    return ops.constant(ov.Tensor(packed, ov.Shape(shape), Type.u4), shared_memory=False)
