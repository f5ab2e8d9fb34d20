"""What lies between a layer's products, in C: torch's numbers, and a row alone decides its bits."""

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from paceline.engine.torch.layer_operators import LayerOperators, TorchOperators
from paceline.engine.torch.native import operators as module
from paceline.engine.torch.native.library import OPERATORS, library
from paceline.engine.torch.native.operators import NativeOperators, native_operators

pytestmark = pytest.mark.skipif(library(OPERATORS) is None, reason="nothing is compiled here")

EPSILON = 1e-5
TORCH = TorchOperators(EPSILON)
CONFIG = {"hidden_size": 64, "intermediate_size": 96, "num_attention_heads": 2}
LIKE = torch.zeros(1, 1, dtype=torch.bfloat16)


def config(**more: Any) -> SimpleNamespace:
    return SimpleNamespace(rms_norm_eps=EPSILON, **CONFIG | more)


def native() -> LayerOperators:
    found = native_operators(config(), LIKE, attends=False)
    assert isinstance(found, NativeOperators)
    return found


def numbers(*shape: int, scale: float = 1.0) -> Tensor:
    generator = torch.Generator().manual_seed(sum(shape))
    return torch.randn(*shape, generator=generator).mul_(scale).bfloat16()


def within_a_bit(found: Tensor, wanted: Tensor) -> None:
    """Or two, of the eight that bfloat16 has: the order of float32 sums may round otherwise."""
    torch.testing.assert_close(found.float(), wanted.float(), rtol=2.0**-7, atol=2.0**-9)


@pytest.mark.parametrize("rows", [1, 3, 8, 40])
def test_a_norm_is_torchs(rows: int) -> None:
    x, weight = numbers(rows, 64, scale=3), numbers(64)
    within_a_bit(native().normalize(x, weight), TORCH.normalize(x, weight))


@pytest.mark.parametrize("rows", [1, 9])
def test_a_norm_of_heads_is_that_of_each(rows: int) -> None:
    heads, weight = numbers(rows, 6, 32)[:, 1:5], numbers(32)
    found = native().normalize(heads, weight)
    assert found.shape == (rows, 4, 32)
    of_rows = native().normalize(heads.reshape(-1, 32), weight)
    assert torch.equal(found, of_rows.view(rows, 4, 32))


@pytest.mark.parametrize("rows", [1, 3, 8, 40])
def test_a_sum_has_the_bits_of_torchs(rows: int) -> None:
    x, more, weight = numbers(rows, 64), numbers(rows, 64, scale=7).flip(0), numbers(64)
    total, normed = native().add_and_normalize(x, more, weight)
    assert torch.equal(total, x + more)
    assert torch.equal(normed, native().normalize(x + more, weight))


@pytest.mark.parametrize("rows", [1, 3, 8, 40])
def test_heads_are_rotated_as_torch_does_where_they_lie(rows: int) -> None:
    qkv, angles = numbers(rows, 6, 32), numbers(rows, 1, 32, scale=9).float()
    cos, sin = angles.cos().bfloat16(), angles.sin().bfloat16()
    wanted, rest = TORCH.rotate(qkv[:, :4], cos, sin), qkv[:, 4:].clone()
    found = native().rotate(qkv[:, :4], cos, sin)
    within_a_bit(found, wanted)
    assert torch.equal(qkv[:, 4:], rest)


@pytest.mark.parametrize("rows", [1, 3, 8, 40])
def test_angles_that_do_not_lie_together_are_the_same_angles(rows: int) -> None:
    heads, angles = numbers(rows, 4, 32), numbers(rows, 2, 64)
    cos, sin = angles[:, :1, ::2], angles[:, 1:, ::2]
    assert not cos.is_contiguous()
    wanted = native().rotate(heads.clone(), cos.contiguous(), sin.contiguous())
    assert torch.equal(native().rotate(heads, cos, sin), wanted)


def test_angles_of_another_width_are_refused() -> None:
    with pytest.raises(ValueError, match=r"^cos is \(2, 1, 16\), and must be \(2, 1, 32\)$"):
        native().rotate(numbers(2, 4, 32), numbers(2, 1, 16), numbers(2, 1, 16))


@pytest.mark.parametrize("rows", [1, 3, 8, 40])
def test_a_gate_is_torchs(rows: int) -> None:
    x = numbers(rows, 192, scale=6)
    within_a_bit(native().gate(x), TORCH.gate(x.clone()))


def test_a_gate_far_from_zero_is_open_or_shut() -> None:
    gate = torch.tensor([-300.0, -90, -20, 0, 20, 90, 300, 1e30]).bfloat16()
    x = torch.cat((gate, gate, torch.ones(16).bfloat16()))[None]
    found = native().gate(x)[0, :8].float()
    wanted = torch.tensor([0, 0, -20 / (1 + torch.e**20), 0, 20, 90, 300, 1e30])
    torch.testing.assert_close(found, wanted, rtol=2.0**-8, atol=1e-30)


def test_a_row_alone_decides_its_bits() -> None:
    x, more, weight = numbers(40, 64), numbers(40, 64), numbers(64)
    gate_up, cos, sin = numbers(40, 192), numbers(40, 1, 32), numbers(40, 1, 32)
    rotated = native().rotate(x.clone().view(40, 2, 32), cos, sin)
    whole = (*native().add_and_normalize(x, more, weight), native().gate(gate_up), rotated)
    for first, end in ((0, 1), (1, 4), (4, 12), (12, 40)):
        rows = slice(first, end)
        turned = native().rotate(x[rows].clone().view(-1, 2, 32), cos[rows], sin[rows])
        added = native().add_and_normalize(x[rows], more[rows], weight)
        for found, wanted in zip(
            (*added, native().gate(gate_up[rows]), turned), whole, strict=True
        ):
            assert torch.equal(found, wanted[rows])


@pytest.mark.parametrize(
    ("more", "like"),
    [
        ({"hidden_size": 40}, LIKE),
        ({"intermediate_size": 40}, LIKE),
        ({"head_dim": 24}, LIKE),
        ({"head_dim": 512}, LIKE),
        ({}, LIKE.float()),
        ({}, torch.zeros(1, 1, dtype=torch.bfloat16, device="meta")),
    ],
)
def test_what_does_not_fit_is_left_to_torch(more: dict[str, Any], like: Tensor) -> None:
    assert native_operators(config(**more), like, attends=True) is None


def test_where_nothing_is_compiled_torch_does_all(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "library", lambda _: None)
    assert native_operators(config(), LIKE, attends=True) is None
