"""Each operator of the forward pass: a row has the same bits whatever else is in the batch.

Shapes of the models that are used here. As the forward pass runs them: linear layers in the
pieces that are found for them, functions by rows where it matters, attention padded. That holds
on every machine; the operators themselves differ by count of rows, index and threads on most.
"""

from collections.abc import Callable, Iterator

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers.models.llama.configuration_llama import LlamaConfig
from transformers.models.llama.modeling_llama import LlamaRMSNorm, LlamaRotaryEmbedding
from transformers.models.llama.modeling_llama import apply_rotary_pos_emb as rotate

from paceline.engine.interfaces import PAGE_TOKENS
from paceline.engine.torch.attention import SpanRows, attending, attention
from paceline.engine.torch.exactness.operators import (
    BatchInvariantOperators,
    by_rows,
    elementwise,
    same_everywhere,
)
from paceline.engine.torch.kv_cache import SessionCache
from paceline.engine.torch.linear import DenseLinear, MakeLinear, can_prepack, make_linear
from paceline.engine.torch.padding import NO_PADDING, batch_invariant
from tests.marks import slow

LINEARS = {
    "tiny": (64, 128),
    "smollm2 qkv": (576, 192),
    "smollm2 up": (576, 1536),
    "smollm2 down": (1536, 576),
    "qwen 0.5b up": (896, 4864),
    "qwen 0.5b down": (4864, 896),
    "qwen 1.5b k": (1536, 256),
    "qwen 1.5b up": (1536, 8960),
    "qwen 1.5b down": (8960, 1536),
}
HEADS = {"tiny": (4, 2, 16), "smollm2": (9, 3, 64), "qwen 0.5b": (14, 2, 64), "1.5b": (12, 2, 128)}
DTYPES = [torch.bfloat16, torch.float32, torch.float64]
ROWS = 96


def counts(dtype: torch.dtype) -> list[int]:
    """Row counts that the runner lets a linear layer see."""
    return sorted({batch_invariant(dtype).rows(rows) for rows in range(1, ROWS)} - {ROWS})


@pytest.fixture(params=[1, 2, *slow(3)])
def threads(request: pytest.FixtureRequest) -> Iterator[int]:
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield request.param
    torch.set_num_threads(before)


@pytest.mark.parametrize("shape", LINEARS)
@pytest.mark.parametrize(
    ("make", "dtype"), [(make_linear("bf16"), torch.bfloat16), *((DenseLinear, d) for d in DTYPES)]
)
def test_linear(make: MakeLinear, shape: str, dtype: torch.dtype) -> None:
    inputs, outputs = LINEARS[shape]
    if dtype != torch.bfloat16 and inputs * outputs > 2**20:
        pytest.skip("served in bfloat16 only")
    torch.manual_seed(0)
    dense = nn.Linear(inputs, outputs, dtype=dtype)
    x = torch.randn(ROWS, inputs).to(dtype)
    with torch.inference_mode():
        invariant = BatchInvariantOperators(64).invariant_linears(make)
        layer = invariant(dense.weight.detach(), dense.bias.detach())
        whole = layer(x)
        for rows in (1, 2, 3, 5, 8, 15, 32, 33, 34, 40, 63, 65):
            assert torch.equal(layer(x[:rows]), whole[:rows]), rows
            assert torch.equal(layer(x[-rows:]), whole[-rows:]), rows


@pytest.mark.parametrize("weights", ["int8", "int4"])
def test_quantized_linear(weights: str) -> None:
    """Few rows take the quantized weights, more the others: a target keeps to the few."""
    torch.manual_seed(0)
    weight, x = torch.randn(192, 576).bfloat16(), torch.randn(40, 576).bfloat16()
    layer = BatchInvariantOperators(64).invariant_linears(make_linear(weights))(weight, None)
    whole = layer(x)
    for rows in (1, 2, 4, 5, 8, 33):
        assert torch.equal(layer(x[-rows:]), whole[-rows:]), rows


FUNCTIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "silu": functional.silu,
    "gelu": functional.gelu,
    "gelu tanh": lambda x: functional.gelu(x, approximate="tanh"),
    "sigmoid": torch.sigmoid,
    "tanh": torch.tanh,
    "softplus": functional.softplus,
}


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", FUNCTIONS)
def test_functions(name: str, dtype: torch.dtype, threads: int) -> None:
    """Where vectors end depends on width, rows, layout and on how threads share the work."""
    torch.manual_seed(0)
    for width in (100, 128, 4864, 8960):
        x = (torch.randn(ROWS, 2 * width) * 3).to(dtype)[:, :width]
        function = elementwise(FUNCTIONS[name], x)
        whole = function(x)
        for rows in (1, 4, 5, 8, 40):
            assert torch.equal(function(x[:rows]), whole[:rows]), (width, rows)
            assert torch.equal(function(x[-rows:]), whole[-rows:]), (width, rows)
            assert torch.equal(function(x[-rows:].contiguous()), whole[-rows:]), (width, rows)


def test_a_function_by_rows_computes_what_it_does_at_once() -> None:
    for shape in [(5, 7), (1, 3, 4, 6), (9,), (0, 4), (4, 1)]:
        x = torch.randn(shape, dtype=torch.float64)
        torch.testing.assert_close(by_rows(torch.tanh, x), torch.tanh(x), rtol=0, atol=1e-15)


def test_a_function_that_differs_at_the_end_of_vectors_is_known() -> None:
    """One number of 65,536, where it is taken alone."""

    def odd(x: Tensor) -> Tensor:
        in_vector = x.is_contiguous() and x.numel() % 8 == 0
        return x if in_vector else torch.where(x == 1.5, 2.0, x)

    assert not same_everywhere(odd, torch.zeros(1, dtype=torch.bfloat16), "odd")
    assert same_everywhere(torch.abs, torch.zeros(1, dtype=torch.bfloat16))


def test_prepacking_computes_what_the_dense_layer_does() -> None:
    torch.manual_seed(0)
    dense = nn.Linear(64, 128, dtype=torch.bfloat16)
    x = torch.randn(8, 64).bfloat16()
    weight, bias = dense.weight.detach(), dense.bias.detach()
    with torch.inference_mode():
        assert torch.equal(make_linear("bf16")(weight, bias)(x), dense(x)) or not can_prepack(
            weight
        )


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("model", HEADS)
def test_attention(model: str, dtype: torch.dtype) -> None:
    """Rows alone, in blocks of 5 and as one prefill, across a page's border."""
    heads, kv_heads, dim = HEADS[model]
    length = PAGE_TOKENS + 40
    torch.manual_seed(0)
    query = torch.randn(1, heads, length, dim).to(dtype)
    key, value = (torch.randn(1, kv_heads, length, dim).to(dtype) for _ in range(2))
    layer = nn.Module()
    layer.layer_idx = 0  # type: ignore[assignment]
    for window in (None, 100):
        whole = attend(layer, query, key, value, [length], window)
        for size in (1, 5):
            pieces = [480] + [size] * ((length - 480) // size)
            found = attend(layer, query, key, value, pieces, window)
            assert torch.equal(found, whole[: found.shape[0]])


def attend(
    layer: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    pieces: list[int],
    window: int | None,
) -> Tensor:
    """Attention of consecutive pieces over one cache, [rows, heads, dim]."""
    cache = SessionCache(batch_invariant(query.dtype))
    outputs = []
    for rows in pieces:
        start = cache.length
        at = slice(start, start + rows)
        spans = [SpanRows(cache, start, 0, rows)]
        with attending(spans):
            out, _ = attention(
                layer, query[:, :, at], key[:, :, at], value[:, :, at], None, None, window
            )
        cache.extend(rows)
        outputs.append(out[0])
    return torch.cat(outputs)


def test_attention_is_what_it_should_be() -> None:
    """Against the formula in float64, with and without a sliding window."""
    torch.manual_seed(0)
    query = torch.randn(1, 4, 30, 8).double()
    key, value = (torch.randn(1, 2, 30, 8).double() for _ in range(2))
    layer = nn.Module()
    layer.layer_idx = 0  # type: ignore[assignment]
    positions = torch.arange(30)
    for window in (None, 7):
        seen = positions[None] <= positions[:, None]
        if window is not None:
            seen &= positions[None] > positions[:, None] - window
        repeated = [x[0].repeat_interleave(2, dim=0) for x in (key, value)]
        scores = query[0] @ repeated[0].transpose(1, 2) / 8**0.5
        weights = scores.masked_fill(~seen, -torch.inf).softmax(-1)
        expected = (weights @ repeated[1]).transpose(0, 1)
        found = attend(layer, query, key, value, [13, 1, 16], window)
        assert torch.allclose(found, expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("width", [64, 576, 896, 1536])
def test_norm_and_rotation(width: int, dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    x = torch.randn(1, ROWS, width).to(dtype)
    norm = LlamaRMSNorm(width).to(dtype)
    config = LlamaConfig(hidden_size=width, num_attention_heads=width // 32)
    rotary = LlamaRotaryEmbedding(config)
    positions = torch.arange(ROWS)[None]

    def rotated(rows: int) -> Tensor:
        cos, sin = rotary(x[:, :rows], positions[:, :rows])
        heads = x[:, :rows].view(1, rows, -1, 32).transpose(1, 2)
        turned: Tensor = rotate(heads, heads, cos, sin)[0]
        return turned.transpose(1, 2)

    with torch.inference_mode():
        for rows in counts(dtype):
            part = x[:, :rows]
            assert torch.equal(norm(part), norm(x)[:, :rows])
            assert torch.equal(rotated(rows), rotated(ROWS)[:, :rows])


def test_pages() -> None:
    padding = batch_invariant(torch.bfloat16)
    assert [padding.keys(length) for length in (0, 1, 512, 513)] == [0, 512, 512, 1024]
    assert [NO_PADDING.keys(length) for length in (0, 1, 513)] == [0, 1, 513]
