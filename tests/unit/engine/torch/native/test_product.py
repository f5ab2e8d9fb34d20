"""Products of compact weights: the bits of oneDNN for each count of rows, or not used at all."""

import functools
from collections.abc import Iterator
from pathlib import Path

import pytest
import structlog
import torch
from torch import Tensor

from paceline.engine.torch import linear
from paceline.engine.torch.linear import PrepackedLinear
from paceline.engine.torch.native import library as compiled
from paceline.engine.torch.native.library import LIKE_ONEDNN
from paceline.engine.torch.native.product import MOST_ROWS, CompactProducts
from paceline.engine.torch.native.weight import packed

needs_bf16 = pytest.mark.skipif(
    not linear.can_prepack(torch.zeros(2, 2, dtype=torch.bfloat16)) or not LIKE_ONEDNN.runs_here,
    reason="this CPU has no products of bfloat16",
)
needs_library = pytest.mark.skipif(
    compiled.library(LIKE_ONEDNN) is None, reason="nothing is compiled here"
)


@pytest.fixture
def anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A machine on which nothing is compiled yet: its folder of compilers, which is empty."""
    monkeypatch.setenv("PACELINE_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    (tmp_path / "bin").mkdir()
    compiled.library.cache_clear()
    yield tmp_path / "bin"
    compiled.library.cache_clear()


COUNTS = (*range(1, 27), 48, 49, 72, 73, MOST_ROWS, MOST_ROWS + 1, 2 * MOST_ROWS + 7)


def parts_of(outputs: int, inputs: int, *, bias: bool = True) -> tuple[Tensor, Tensor | None]:
    """A weight and a bias, the same whenever they are asked for."""
    torch.manual_seed(outputs + inputs)
    weight = torch.randn(outputs, inputs).mul_(0.05).bfloat16()
    return weight, torch.randn(outputs).bfloat16() if bias else None


def layer_of(outputs: int, inputs: int, *, bias: bool = True) -> PrepackedLinear:
    return PrepackedLinear(*parts_of(outputs, inputs, bias=bias), CompactProducts())


@needs_bf16
@needs_library
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("shape", [(64, 128), (128, 66), (960, 576), (1536, 1536), (896, 4864)])
def test_each_count_of_rows_has_the_bits_of_onednn(shape: tuple[int, int], bias: bool) -> None:
    layer = layer_of(*shape, bias=bias)
    assert layer.compact is not None
    x = torch.randn(COUNTS[-1], shape[1]).bfloat16()
    expected = PrepackedLinear(*parts_of(*shape, bias=bias))(x)
    for rows in COUNTS:
        assert torch.equal(layer(x[:rows]), expected[:rows]), rows
        assert torch.equal(layer(x[-rows:]), expected[-rows:]), rows


@needs_bf16
@needs_library
def test_rows_that_do_not_lie_together_and_none_at_all_count_too() -> None:
    layer = layer_of(128, 96)
    x = torch.randn(6, 192).bfloat16()[:, ::2]
    assert not x.is_contiguous()
    assert torch.equal(layer(x), layer(x.contiguous()))
    assert torch.equal(layer(x.view(2, 3, 96)), layer(x).view(2, 3, 128))
    assert layer(x[:0]).shape == (0, 128)


@needs_bf16
@needs_library
def test_each_number_is_kept_as_it_is() -> None:
    weight = torch.randn(128, 600).mul_(0.02).bfloat16()
    for place, odd in enumerate((0.0, -0.0, 1e-30, -1e-30, 3e20, -3e20, 1.1754944e-38, 7.0)):
        weight[place::31, 2 * place] = odd
    onednn = functools.partial(PrepackedLinear, weight, None)
    found = CompactProducts().product(weight, None, onednn)
    assert found is not None
    rare = found.weight.tensors[-1].shape[0]
    assert 0 < rare < 40
    assert torch.equal(found(torch.eye(600).bfloat16()), weight.T)


@needs_bf16
@needs_library
def test_a_weight_takes_three_quarters_and_one_that_would_take_more_is_left_to_onednn() -> None:
    compact = layer_of(512, 512).compact
    assert compact is not None
    assert 0.75 <= compact.weight.nbytes / (512 * 512 * 2) < 0.79
    scattered = torch.randn(512, 512).mul_(2.0 ** torch.randint(-60, 60, (512, 512))).bfloat16()
    layer = PrepackedLinear(scattered, None, CompactProducts())
    assert layer.compact is None
    x = torch.randn(4, 512).bfloat16()
    assert torch.equal(layer(x), PrepackedLinear(scattered, None)(x))


@needs_bf16
@needs_library
def test_sums_in_another_order_are_left_to_onednn() -> None:
    weight = torch.randn(1024, 1536).bfloat16()

    def halves(x: Tensor) -> Tensor:
        products = (x[:, part].float() @ weight[:, part].float().T for part in PARTS)
        return functools.reduce(torch.add, products).bfloat16()

    onednn = functools.partial(PrepackedLinear, weight, None)
    assert CompactProducts().product(weight, None, onednn) is not None
    assert CompactProducts().product(weight, None, lambda: halves) is None


PARTS = (slice(0, 700), slice(700, None))


@needs_bf16
@needs_library
@pytest.mark.parametrize("shape", [(96, 64), (64, 33)])
def test_shapes_that_do_not_fit_are_left_to_onednn(shape: tuple[int, int]) -> None:
    assert layer_of(*shape).compact is None


@needs_bf16
@needs_library
def test_a_chunk_that_cannot_be_is_refused() -> None:
    library = compiled.library(LIKE_ONEDNN)
    assert library is not None
    for chunk in (0, 3, 131_072):
        with pytest.raises(ValueError, match=f"chunk is {chunk}, and may be even, from 2"):
            packed(library, torch.zeros(64, 64, dtype=torch.bfloat16), chunk)


@needs_bf16
def test_without_a_compiler_onednn_multiplies(anew: Path) -> None:
    with structlog.testing.capture_logs() as lines:
        layer = layer_of(128, 64)
    assert layer.compact is None
    assert [line["event"] for line in lines] == ["not compiled"]
    assert lines[0]["reason"] == "there is no C compiler, cc, on the PATH"
    x = torch.randn(4, 64).bfloat16()
    assert torch.equal(layer(x), PrepackedLinear(*parts_of(128, 64))(x))


@needs_bf16
def test_a_compiler_that_fails_is_quoted(anew: Path) -> None:
    compiler(anew, "echo one >&2; echo 'error: unknown option -mavx512bf16' >&2; exit 4")
    with structlog.testing.capture_logs() as lines:
        assert compiled.library(LIKE_ONEDNN) is None
    [reason] = [line["reason"] for line in lines]
    assert reason == f"{anew}/cc ended with 4: error: unknown option -mavx512bf16"


@needs_bf16
def test_what_cannot_be_loaded_is_said(anew: Path) -> None:
    compiler(anew, 'while [ "$1" != -o ]; do shift; done; echo none > "$2"')
    with structlog.testing.capture_logs() as lines:
        assert compiled.library(LIKE_ONEDNN) is None
    [reason] = [line["reason"] for line in lines]
    assert "cannot be loaded" in reason


@needs_bf16
@needs_library
def test_a_folder_that_cannot_be_written_is_named(
    anew: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "/usr/bin:/bin")
    home = anew.parent / "home"
    home.write_text("no folder")
    with structlog.testing.capture_logs() as lines:
        assert compiled.library(LIKE_ONEDNN) is None
    [reason] = [line["reason"] for line in lines]
    assert reason.startswith(f"{home}/compiled, where it would be kept: ")


@needs_bf16
@needs_library
def test_it_is_compiled_once(anew: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/usr/bin:/bin")
    assert compiled.library(LIKE_ONEDNN) is not None
    compiled.library.cache_clear()
    monkeypatch.setenv("PATH", str(anew))
    assert compiled.library(LIKE_ONEDNN) is not None


def compiler(folder: Path, does: str) -> None:
    script = folder / "cc"
    script.write_text(f"#!/bin/sh\n{does}\n")
    script.chmod(0o755)
