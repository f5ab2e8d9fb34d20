"""Linear layers: what is packed or quantized is as near to the dense layer as it can be."""

import pytest
import torch
from torch.nn import functional

from paceline.engine.torch import linear as module
from paceline.engine.torch.linear import (
    FEW_ROWS,
    DenseLinear,
    Int4Linear,
    Int8Linear,
    PrepackedLinear,
    make_linear,
)

ROWS = (1, 2, FEW_ROWS, FEW_ROWS + 1, 33)
SHAPE = (96, 64)
needs_operators = pytest.mark.skipif(
    module._INT4 is None
    or module._INT8 is None
    or not module.can_prepack(torch.zeros(2, 2, dtype=torch.bfloat16)),
    reason="this build of torch, or this CPU, lacks the operators",
)


def layer_of(
    weights: str,
    *,
    bias: bool = True,
    shape: tuple[int, int] = SHAPE,
    dtype: torch.dtype = torch.bfloat16,
) -> tuple[object, torch.Tensor, torch.Tensor | None]:
    torch.manual_seed(1)
    weight = torch.randn(shape).to(dtype)
    offset = torch.randn(shape[0]).to(dtype) if bias else None
    return make_linear(weights)(weight, offset), weight, offset


@needs_operators
@pytest.mark.parametrize("rows", ROWS)
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize(
    ("weights", "kind", "error"),
    [("bf16", PrepackedLinear, 0.02), ("int8", Int8Linear, 0.03), ("int4", Int4Linear, 0.15)],
)
def test_each_kind_of_weights_is_near_the_dense_layer(
    weights: str, kind: type, error: float, bias: bool, rows: int
) -> None:
    layer, weight, offset = layer_of(weights, bias=bias)
    assert isinstance(layer, kind)
    x = torch.randn(rows, SHAPE[1]).bfloat16()
    expected = functional.linear(
        x.float(), weight.float(), None if offset is None else offset.float()
    )
    given = layer(x).float()  # type: ignore[operator]
    assert given.shape == expected.shape
    assert (given - expected).norm() < error * expected.norm()


@needs_operators
@pytest.mark.parametrize("weights", ["int8", "int4"])
def test_many_rows_go_to_the_weights_as_they_are(weights: str) -> None:
    quantized, weight, offset = layer_of(weights)
    exact = PrepackedLinear(weight, offset)
    x = torch.randn(FEW_ROWS + 1, SHAPE[1]).bfloat16()
    assert torch.equal(quantized(x), exact(x))  # type: ignore[operator]
    assert not torch.equal(quantized(x[:2]), exact(x[:2]))  # type: ignore[operator]


@needs_operators
def test_int4_is_exact_where_sixteen_values_say_it_all() -> None:
    torch.manual_seed(2)
    codes = torch.randint(0, 16, SHAPE)
    codes[:, ::32], codes[:, 1::32] = 0, 15
    layer = make_linear("int4")(((codes - 8) / 8).bfloat16(), None)
    x = torch.eye(SHAPE[1]).bfloat16()[:FEW_ROWS]
    assert torch.allclose(layer(x).float(), ((codes - 8) / 8)[:, :FEW_ROWS].T, atol=0.01)


def test_where_an_operator_is_missing_the_next_best_layer_takes_its_place(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "_INT4", None)
    assert isinstance(layer_of("int4")[0], PrepackedLinear | DenseLinear)
    monkeypatch.setattr(module, "_PACK", None)
    for weights in ("bf16", "int8", "int4"):
        assert isinstance(layer_of(weights)[0], DenseLinear)


def test_what_does_not_fit_an_operator_stays_as_it_is() -> None:
    assert not isinstance(layer_of("int4", shape=(40, 24))[0], Int4Linear)
    for weights in ("bf16", "int8", "int4"):
        assert isinstance(layer_of(weights, dtype=torch.float32)[0], DenseLinear)


def test_where_onednn_packs_no_bf16_layers_stay_dense(monkeypatch: pytest.MonkeyPatch) -> None:
    """As with AVX2 alone, where the operator is there and raises."""

    def refuse(_: torch.Tensor) -> torch.Tensor:
        raise RuntimeError("bf16 path needs the cpu support avx512bw")

    module._packs.cache_clear()
    monkeypatch.setattr(module, "_PACK", refuse)
    for weights in ("bf16", "int8", "int4"):
        assert isinstance(layer_of(weights)[0], DenseLinear)
    module._packs.cache_clear()
