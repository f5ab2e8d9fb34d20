"""Products and norms with tiles of their own: right, and the same bits whatever else is computed.

Here the kernels run in Triton's interpreter; on a GPU's day they run there (DEVICE_OF_TESTS).
"""

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional

from paceline.engine.interfaces import Span
from paceline.engine.torch import loading, row_pieces
from paceline.engine.torch.exactness import operators as module_of_operators
from paceline.engine.torch.exactness import products
from paceline.engine.torch.exactness.operators import BatchInvariantOperators
from paceline.engine.torch.kernels import has_kernels
from paceline.engine.torch.layer_operators import rms_norm
from paceline.engine.torch.linear import DenseLinear
from paceline.engine.torch.loading import load_model
from paceline.engine.torch.padding import batch_invariant
from paceline.engine.torch.runner import ModelRunner
from tests.conftest import DEVICE
from tests.marks import slow
from tests.tiny_models import tiny_model

pytest.importorskip("triton", reason="needs triton: pip install 'paceline[dev]', on Linux")

from paceline.engine.torch import tiled
from paceline.engine.torch.tiled import FEW, MANY, Tile, TiledLinear

SMALL, WIDE = Tile(16, 16, 64), Tile(32, 32, 64)
LARGE, LARGER = Tile(16, 128, 512), Tile(32, 128, 512)
"""For models: the interpreter takes its time for each tile."""
DTYPES = [torch.float32, torch.bfloat16]


def random(*sizes: int, dtype: torch.dtype = torch.float32) -> Tensor:
    generator = torch.Generator().manual_seed(sum(sizes))
    return torch.randn(*sizes, generator=generator).to(DEVICE, dtype)


def layer(dtype: torch.dtype, inputs: int, outputs: int, *tiles: Tile) -> TiledLinear:
    bias = random(outputs, dtype=dtype)
    return TiledLinear(random(outputs, inputs, dtype=dtype), bias, *tiles)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("inputs", "outputs"), [(64, 32), (50, 19), (130, 70)])
def test_products_are_those_of_torch(inputs: int, outputs: int, dtype: torch.dtype) -> None:
    """Whole tiles, and sizes that no tile divides; with a bias and without."""
    x, weight = random(21, inputs, dtype=dtype), random(outputs, inputs, dtype=dtype)
    for bias in (None, random(outputs, dtype=dtype)):
        wide = None if bias is None else bias.double()
        expected = functional.linear(x.double(), weight.double(), wide)
        for tiles in ((SMALL,), (SMALL, WIDE), (FEW, MANY)):
            found = TiledLinear(weight, bias, *tiles)(x)
            assert found.dtype == dtype
            tolerance = 1e-5 if dtype == torch.float32 else 2e-2
            torch.testing.assert_close(
                found.double(), expected, rtol=tolerance, atol=10 * tolerance
            )


@pytest.mark.parametrize("dtype", DTYPES)
@settings(max_examples=5)
@given(rows=st.lists(st.integers(1, 40), min_size=1, max_size=5), seed=st.integers(0, 9))
def test_a_row_has_the_same_bits_alone_and_in_every_batch(
    dtype: torch.dtype, rows: list[int], seed: int
) -> None:
    """However the rows are cut into batches, and in whatever order they come."""
    linear, x = layer(dtype, 48, 24, SMALL, WIDE), random(sum(rows), 48, dtype=dtype)
    whole = linear(x)
    assert torch.equal(torch.cat([linear(part) for part in x.split(rows)]), whole)
    order = torch.from_numpy(np.random.default_rng(seed).permutation(len(x))).to(DEVICE)
    assert torch.equal(linear(x[order]), whole[order])
    assert torch.equal(linear(x[-1:]), whole[-1:])


def test_what_other_rows_hold_changes_nothing() -> None:
    """Not even where they are no numbers."""
    linear, x = layer(torch.float32, 48, 24, SMALL, WIDE), random(40, 48)
    whole = linear(x)
    x[1::2] = torch.nan
    assert torch.equal(linear(x)[::2], whole[::2])


def test_weights_may_lie_in_either_order_and_rows_apart() -> None:
    x, weight = random(9, 40), random(24, 40)
    expected = TiledLinear(weight, None, SMALL)(x)
    assert torch.equal(TiledLinear(weight.t().contiguous().t(), None, SMALL)(x), expected)
    apart = torch.stack((x, x), dim=1)[:, 1]
    assert torch.equal(TiledLinear(weight, None, SMALL)(apart), expected)
    assert torch.equal(TiledLinear(weight, None, SMALL)(x.t().contiguous().t()), expected)


def test_the_smallest_tile_that_holds_the_rows_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    used: list[Tile] = []

    def noting(x: Tensor, weight: Tensor, bias: Tensor | None, tile: Tile) -> Tensor:
        used.append(tile)
        return functional.linear(x, weight, bias)

    monkeypatch.setattr(tiled, "multiply", noting)
    linear = layer(torch.float32, 8, 8, SMALL, WIDE)
    for rows in (1, 16, 17, 32, 33):
        linear(random(rows, 8))
    assert used == [SMALL, SMALL, WIDE, WIDE, WIDE]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("width", [16, 24, 100])
def test_norms_are_those_of_torch_and_rows_are_alone(width: int, dtype: torch.dtype) -> None:
    x, weight = random(9, width, dtype=dtype), random(width, dtype=dtype)
    found = tiled.rms_norm(x, weight, 1e-5)
    tolerance = 1e-5 if dtype == torch.float32 else 2e-2  # the interpreter cuts bfloat16 off
    torch.testing.assert_close(found, rms_norm(x, weight, 1e-5), rtol=tolerance, atol=1e-6)
    for count in (1, 2, 5):
        parts = [tiled.rms_norm(part, weight, 1e-5) for part in x.split(count)]
        assert torch.equal(torch.cat(parts), found)


def test_norms_of_heads_that_lie_apart() -> None:
    """As those of queries and keys within one product's result."""
    x, weight = random(5, 7, 16), random(16)
    found = tiled.rms_norm(x[:, 2:5], weight, 1e-5)
    of_rows = tiled.rms_norm(x[:, 2:5].reshape(-1, 16).contiguous(), weight, 1e-5)
    assert torch.equal(found.view(-1, 16), of_rows)


def test_kernels_are_for_a_gpu_and_its_dtypes() -> None:
    assert has_kernels("cuda", torch.bfloat16)
    assert has_kernels("cuda", torch.float32)
    assert not has_kernels("cuda", torch.float64)
    assert not has_kernels("cpu", torch.bfloat16)


def as_on_a_gpu(_: str, dtype: torch.dtype) -> bool:
    return dtype in DTYPES


@pytest.fixture
def kernels_here(monkeypatch: pytest.MonkeyPatch) -> None:
    """Small tiles, for the interpreter, wherever the kernels would be used."""
    for module in (loading, products):
        monkeypatch.setattr(module, "has_kernels", as_on_a_gpu)
    monkeypatch.setattr(loading, "native_operators", lambda *_, **__: None)  # they are for the CPU
    monkeypatch.setattr(row_pieces, "COMPARED", 2**9)
    monkeypatch.setattr(tiled, "CHOICES", ((LARGE, LARGER), (LARGE,)))


class ByNumber(DenseLinear):
    """As a GPU's library: with other bits from 17 rows on."""

    def __call__(self, x: Tensor) -> Tensor:
        """[rows, in] to [rows, out]."""
        given = super().__call__(x)
        return given * 1.001 if x.shape[0] > 16 else given


CHOSEN = {
    "the library agrees": ("measured", DenseLinear, "DenseLinear"),
    "the library does not agree": ("measured", ByNumber, "TiledLinear 16x128x512/32x128x512"),
    "the library, whatever it does": ("library", ByNumber, "ByNumber"),
    "ours, whatever the library does": ("tiled", DenseLinear, "TiledLinear 16x128x512/32x128x512"),
}


@pytest.mark.usefixtures("kernels_here")
@pytest.mark.parametrize("case", CHOSEN)
def test_what_multiplies_is_chosen_by_measurement(case: str) -> None:
    setting, kind, name = CHOSEN[case]
    operators = BatchInvariantOperators(32, setting)
    weight, x = random(24, 32), random(30, 32)
    made = operators.invariant_linears(kind)(weight, None)
    [line] = [line for line in operators.numerics.splitlines() if line.startswith(name)]
    whole = "multiples of 2 from 4 to " + ("16" if name == "ByNumber" else "all")
    assert whole in line
    rows = torch.cat([made(part) for part in x.split([1, 4, 25])])
    assert torch.equal(rows, made(x))


@pytest.mark.usefixtures("kernels_here")
def test_tiles_that_differ_are_not_used_together(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the large tile rounds differently, the small one computes all rows."""
    multiply = tiled.multiply

    def differing(x: Tensor, weight: Tensor, bias: Tensor | None, tile: Tile) -> Tensor:
        given = multiply(x, weight, bias, tile)
        return given * 1.001 if tile == LARGER else given

    monkeypatch.setattr(tiled, "multiply", differing)
    operators = BatchInvariantOperators(36, "tiled")
    operators.invariant_linears(DenseLinear)(random(24, 34), None)
    assert "TiledLinear 16x128x512 34 24" in operators.numerics


@pytest.mark.usefixtures("kernels_here")
@pytest.mark.parametrize(
    ("family", "dtype", "kinds"),
    [
        ("llama", "float32", {"TiledLinear"}),
        *slow(
            ("qwen3", "bfloat16", {"TiledLinear"}), ("gemma", "float32", {"TiledLinear", "mean"})
        ),
    ],
)
def test_rows_of_a_model_of_these_do_not_depend_on_their_step(
    family: str, dtype: str, kinds: set[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While it is loaded it is compared with transformers. A generic one's means run in pieces."""
    monkeypatch.setattr(module_of_operators, "REDUCES_BY_NUMBER", {DEVICE})
    operators, numbers = BatchInvariantOperators(32, "tiled"), getattr(torch, dtype)
    folder = tiny_model(tmp_path, family, dtype=dtype, heads=(2, 1))
    loaded = load_model(folder, numbers, DEVICE, operators=operators)
    padding, tokens = batch_invariant(numbers, 32), tuple(range(18))
    runner = ModelRunner(loaded.forward, loaded.device, padding, loaded.rope_length.of)
    [whole] = runner.forward([(runner.new_cache(), Span(0, tokens, 18))])
    cache, done, rows = runner.new_cache(), 0, []
    for size in (1, 5, 12):
        beside = (runner.new_cache(), Span(0, tokens[:size], size))
        piece = Span(done, tokens[done : done + size], size)
        rows.append(runner.forward([beside, (cache, piece)])[1])
        done += size
    np.testing.assert_array_equal(np.concatenate(rows), whole)
    assert {line.split()[0] for line in operators.numerics.splitlines() if line} == kinds
    assert operators.varying == ()
