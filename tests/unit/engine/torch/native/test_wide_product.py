"""Products in float32, where oneDNN takes no bf16: the same bits whatever rows are beside."""

from unittest.mock import patch

import pytest
import torch
from torch import Tensor, nn

from paceline.engine.torch import linear
from paceline.engine.torch.linear import DenseLinear, WideLinear, make_linear, swap_linears
from paceline.engine.torch.native.library import WIDE, library
from paceline.engine.torch.native.product import (
    MOST_ROWS,
    WIDE_CHUNK,
    CompactProduct,
    can_widen,
    wide_product,
)

pytestmark = pytest.mark.skipif(library(WIDE) is None, reason="nothing is compiled here")

COUNTS = (*range(1, 27), 48, 49, 72, 73, MOST_ROWS, MOST_ROWS + 1, 2 * MOST_ROWS + 7)
SHAPES = [(64, 128), (128, 66), (960, 576), (1536, 1536), (896, 4864)]


@pytest.fixture
def no_onednn(monkeypatch: pytest.MonkeyPatch) -> None:
    """A CPU for which oneDNN packs no bf16."""
    monkeypatch.setattr(linear, "_packs", lambda: False)


def parts_of(outputs: int, inputs: int) -> tuple[Tensor, Tensor]:
    """A weight and a bias."""
    torch.manual_seed(outputs + inputs)
    return torch.randn(outputs, inputs).mul_(0.05).bfloat16(), torch.randn(outputs).bfloat16()


def product_of(weight: Tensor, bias: Tensor | None = None) -> CompactProduct:
    found = wide_product(weight, bias)
    assert found is not None
    return found


def summed(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """By torch, an input at a time; products of two bf16 are exact in float32."""
    rows, columns = x.float(), weight.float().T.contiguous()
    total = torch.zeros(x.shape[0], weight.shape[0])
    for chunk in range(0, weight.shape[1], WIDE_CHUNK):
        part = torch.zeros_like(total)
        for at in range(chunk, min(chunk + WIDE_CHUNK, weight.shape[1])):
            part += rows[:, at : at + 1] * columns[at]
        total += part
    return (total if bias is None else total + bias.float()).bfloat16()


@pytest.mark.parametrize("shape", SHAPES)
def test_each_count_of_rows_has_the_same_bits(shape: tuple[int, int]) -> None:
    product = product_of(*parts_of(*shape))
    x = torch.randn(COUNTS[-1], shape[1]).bfloat16()
    expected = product(x)
    for rows in COUNTS:
        assert torch.equal(product(x[:rows]), expected[:rows]), rows
        assert torch.equal(product(x[-rows:]), expected[-rows:]), rows


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("shape", SHAPES[:4])
def test_inputs_are_summed_in_order_within_chunks(shape: tuple[int, int], bias: bool) -> None:
    weight, offset = parts_of(*shape)
    given = offset if bias else None
    for rows in (1, 3, 4, 5, 7):
        x = torch.randn(rows, shape[1]).bfloat16()
        assert torch.equal(product_of(weight, given)(x), summed(x, weight, given)), rows


def test_each_number_is_kept_as_it_is() -> None:
    weight = torch.randn(128, 600).mul_(0.02).bfloat16()
    for place, odd in enumerate((1e-30, -1e-30, 3e20, -3e20, 1.1754944e-38, 7.0)):
        weight[place::31, 2 * place] = odd
    product = product_of(weight)
    assert 0 < product.weight.tensors[-1].shape[0] < 40
    one_by_one = torch.cat([product(row[None]) for row in torch.eye(600).bfloat16()])
    assert torch.equal(one_by_one, weight.T)
    assert torch.equal(product(torch.eye(600).bfloat16()), weight.T)


def test_infinities_and_what_is_no_number_come_out() -> None:
    weight = torch.ones(64, 4).bfloat16()
    rows = torch.tensor([[3e38, 3e38, 0, 0], [float("nan"), 1, 1, 1], [float("inf"), 1, 1, 1]])
    given = product_of(weight)(rows.bfloat16())
    assert given[0].isposinf().all()
    assert given[1].isnan().all()
    assert given[2].isposinf().all()


def test_rows_that_do_not_lie_together_and_none_at_all_count_too() -> None:
    layer = WideLinear(product_of(*parts_of(128, 96)))
    x = torch.randn(6, 192).bfloat16()[:, ::2]
    assert torch.equal(layer(x), layer(x.contiguous()))
    assert torch.equal(layer(x.view(2, 3, 96)), layer(x).view(2, 3, 128))
    assert layer(x[:0]).shape == (0, 128)


@pytest.mark.usefixtures("no_onednn")
def test_layers_are_wide_where_onednn_takes_no_bf16() -> None:
    make = make_linear("bf16")
    assert isinstance(make(*parts_of(128, 64)), WideLinear)
    assert isinstance(make(*parts_of(96, 64)), DenseLinear)
    assert isinstance(make(torch.randn(128, 64), None), DenseLinear)
    with patch.object(linear, "wide_product", lambda *_: None):
        assert isinstance(make(*parts_of(128, 64)), DenseLinear)


@pytest.mark.usefixtures("no_onednn")
def test_modules_of_transformers_get_such_layers_too() -> None:
    fits, does_not = nn.Linear(64, 128).bfloat16(), nn.Linear(128, 96).bfloat16()
    model = nn.Sequential(fits, does_not)
    x = torch.randn(3, 64).bfloat16()
    wide = product_of(fits.weight.detach(), fits.bias.detach())(x)
    swap_linears(model, make_linear("bf16"))
    assert torch.equal(model[0](x), wide)
    assert model[1] is does_not


def test_what_does_not_fit_is_not_widened() -> None:
    assert can_widen(torch.zeros(64, 2, dtype=torch.bfloat16))
    for other in (
        torch.zeros(96, 64, dtype=torch.bfloat16),
        torch.zeros(64, 33, dtype=torch.bfloat16),
        torch.zeros(64, 64),
        torch.zeros(64, 64, dtype=torch.bfloat16, device="meta"),
    ):
        assert not can_widen(other)
        assert wide_product(other, None) is None


def test_a_weight_that_would_take_more_is_left_to_torch() -> None:
    scattered = torch.randn(512, 512).mul_(2.0 ** torch.randint(-60, 60, (512, 512))).bfloat16()
    assert wide_product(scattered, None) is None
