"""Products of few rows: the bits of oneDNN for each count of rows, or not used at all."""

import functools
from collections.abc import Iterator
from pathlib import Path

import pytest
import structlog
import torch

from paceline.engine.torch import linear
from paceline.engine.torch.few_rows import library as compiled
from paceline.engine.torch.few_rows.product import MOST_ROWS, FewRows
from paceline.engine.torch.linear import PrepackedLinear

needs_bf16 = pytest.mark.skipif(
    not linear.can_prepack(torch.zeros(2, 2, dtype=torch.bfloat16))
    or not all(torch.cpu.get_capabilities().get(name) for name in compiled.NEEDED),
    reason="this CPU has no products of bfloat16",
)
needs_library = pytest.mark.skipif(compiled.library() is None, reason="nothing is compiled here")


@pytest.fixture
def anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A machine on which nothing is compiled yet: its folder of compilers, which is empty."""
    monkeypatch.setenv("PACELINE_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    (tmp_path / "bin").mkdir()
    compiled.library.cache_clear()
    yield tmp_path / "bin"
    compiled.library.cache_clear()


def layer_of(outputs: int, inputs: int, *, bias: bool = True) -> PrepackedLinear:
    torch.manual_seed(outputs + inputs)
    weight = torch.randn(outputs, inputs).mul_(0.05).bfloat16()
    return PrepackedLinear(weight, torch.randn(outputs).bfloat16() if bias else None, FewRows())


@needs_bf16
@needs_library
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("shape", [(64, 128), (128, 64), (960, 576), (1536, 1536), (896, 4864)])
def test_each_count_of_rows_has_the_bits_of_many(shape: tuple[int, int], bias: bool) -> None:
    layer = layer_of(*shape, bias=bias)
    assert layer._few is not None
    x = torch.randn(MOST_ROWS, shape[1]).bfloat16()
    expected = layer._many(torch.cat([x] * 4))[:MOST_ROWS]
    for rows in range(1, MOST_ROWS + 1):
        assert torch.equal(layer._few(x[:rows]), expected[:rows])
        assert torch.equal(layer(x[-rows:]), expected[-rows:])


@needs_bf16
@needs_library
def test_rows_that_do_not_lie_together_count_too() -> None:
    layer = layer_of(128, 96)
    x = torch.randn(6, 192).bfloat16()[:, ::2]
    assert not x.is_contiguous()
    assert torch.equal(layer(x), layer._many(torch.cat([x, x]))[:6])


@needs_bf16
@needs_library
def test_sums_in_another_order_are_left_to_onednn() -> None:
    weight = torch.randn(1024, 1536).bfloat16()
    packed = PrepackedLinear(weight, None)

    def halves(x: torch.Tensor) -> torch.Tensor:
        products = (x[:, part].float() @ weight[:, part].float().T for part in PARTS)
        return functools.reduce(torch.add, products).bfloat16()

    assert FewRows().product(packed._packed, weight, None, packed._many) is not None
    assert FewRows().product(packed._packed, weight, None, halves) is None


PARTS = (slice(0, 700), slice(700, None))


@needs_bf16
@needs_library
@pytest.mark.parametrize("shape", [(96, 64), (64, 33), (64, 2)])
def test_shapes_that_do_not_fit_are_left_to_onednn(shape: tuple[int, int]) -> None:
    assert layer_of(*shape)._few is None


@needs_bf16
@needs_library
def test_more_rows_are_refused_by_the_product_and_taken_by_the_layer() -> None:
    layer = layer_of(64, 64)
    x = torch.randn(MOST_ROWS + 1, 64).bfloat16()
    assert layer._few is not None
    with pytest.raises(ValueError, match="rows is 25, and may be up to 24"):
        layer._few(x)
    assert torch.equal(layer(x), layer._many(x))


@needs_bf16
def test_without_a_compiler_onednn_has_few_rows_too(anew: Path) -> None:
    with structlog.testing.capture_logs() as lines:
        layer = layer_of(128, 64)
    assert layer._few is None
    assert [line["event"] for line in lines] == ["few rows run in oneDNN"]
    assert lines[0]["reason"] == "there is no C compiler, cc, on the PATH"
    x = torch.randn(4, 64).bfloat16()
    assert torch.equal(layer(x), layer._many(x))


@needs_bf16
def test_a_compiler_that_fails_is_quoted(anew: Path) -> None:
    compiler(anew, "echo one >&2; echo 'error: unknown option -mavx512bf16' >&2; exit 4")
    with structlog.testing.capture_logs() as lines:
        assert compiled.library() is None
    [reason] = [line["reason"] for line in lines]
    assert reason == f"{anew}/cc ended with 4: error: unknown option -mavx512bf16"


@needs_bf16
def test_what_cannot_be_loaded_is_said(anew: Path) -> None:
    compiler(anew, 'while [ "$1" != -o ]; do shift; done; echo none > "$2"')
    with structlog.testing.capture_logs() as lines:
        assert compiled.library() is None
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
        assert compiled.library() is None
    [reason] = [line["reason"] for line in lines]
    assert reason.startswith(f"{home}/compiled, where it would be kept: ")


@needs_bf16
@needs_library
def test_it_is_compiled_once(anew: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/usr/bin:/bin")
    assert compiled.library() is not None
    compiled.library.cache_clear()
    monkeypatch.setenv("PATH", str(anew))
    assert compiled.library() is not None


def compiler(folder: Path, does: str) -> None:
    script = folder / "cc"
    script.write_text(f"#!/bin/sh\n{does}\n")
    script.chmod(0o755)
