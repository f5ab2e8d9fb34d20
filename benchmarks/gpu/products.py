"""What products with weights take: the device's library and our tiles, and whether rows agree."""

import functools
import time
from collections.abc import Callable, Iterator

import torch
from torch import Tensor
from torch.nn import functional

from benchmarks.gpu.options import GpuOptions
from benchmarks.gpu.shapes import Shape
from paceline.engine.torch.kernels import has_kernels
from paceline.engine.torch.row_pieces import RowPieces, find_pieces

ROWS = (4, 16, 64, 256)
"""Of a step: one stream, its verify block, many streams, a piece of a prompt."""
BEYOND_CACHES = 2**28
"""Bytes of copies of a weight that are multiplied with in turn: a step reads each weight once."""
MOST_COPIES = 64

Product = Callable[[Tensor, Tensor], Tensor]
"""Of rows [n, in] and a weight [out, in]."""


def measure_products(options: GpuOptions, shape: Shape) -> dict[str, dict[str, object]]:
    """By layer and by what multiplies: microseconds by rows, and in which counts rows agree."""
    dtype = getattr(torch, shape.dtype)
    found: dict[str, dict[str, object]] = {}
    for layer, (outputs, inputs) in layers(shape).items():
        weight = torch.randn(outputs, inputs, dtype=dtype, device=options.device)
        for name, product in products(options.device, dtype):
            found[f"{layer} {name}"] = _figures(options, product, weight)
    return found


def layers(shape: Shape) -> dict[str, tuple[int, int]]:
    """Outputs and inputs of each product of a step."""
    head = shape.width // shape.heads
    return {
        "qkv": (head * (shape.heads + 2 * shape.kv_heads), shape.width),
        "out": (shape.width, shape.width),
        "gate_up": (2 * shape.mlp_width, shape.width),
        "down": (shape.width, shape.mlp_width),
        "head": (shape.vocabulary, shape.width),
    }


def products(device: str, dtype: torch.dtype) -> Iterator[tuple[str, Product]]:
    """The library's, and tiles to choose from, where the device has them."""
    yield "library", functional.linear
    if not has_kernels(torch.device(device).type, dtype):
        return
    from paceline.engine.torch.tiled import FEW, MANY, Tile, multiply

    tried = (FEW, MANY, Tile(16, 16, 512, 2), Tile(16, 64, 256), Tile(64, 128, 128))
    for tile in tried:
        yield f"tile {tile}", functools.partial(multiply, bias=None, tile=tile)


def _figures(options: GpuOptions, product: Product, weight: Tensor) -> dict[str, object]:
    like, most = weight[:1], min(256, options.probe_positions)
    try:
        pieces = find_pieces(lambda x: product(x, weight), like, weight.shape[0], most)
        times = {rows: _microseconds(options, product, weight, rows) for rows in ROWS}
    except Exception as error:  # a tile that the device has no room for loses no other
        return {"error": str(error).splitlines()[0][:200]}
    return {"microseconds": times, "rows_agree": _told(pieces, most)}


def _told(pieces: RowPieces | None, most: int) -> str:
    return "in none" if pieces is None else pieces.layout(most)


def _microseconds(options: GpuOptions, product: Product, weight: Tensor, rows: int) -> float:
    """Of one product, the median of some runs over copies of the weight."""
    x = torch.randn(rows, weight.shape[1], dtype=weight.dtype, device=weight.device)
    on_gpu = weight.device.type == "cuda"
    count = max(1, min(MOST_COPIES, BEYOND_CACHES // weight.nbytes)) if on_gpu else 1
    copies = [weight, *(weight.clone() for _ in range(count - 1))]

    def run() -> Tensor:
        return [product(x, one) for one in copies][-1]

    run()
    return 1e6 * _median(_captured(run) if on_gpu else run, options) / count


def _captured(run: Callable[[], Tensor]) -> Callable[[], Tensor]:
    """As a graph: Python takes longer to ask for a small product than the GPU to compute it."""
    from paceline.engine.torch.paged.runner import cuda_graph  # needs Triton

    return cuda_graph(run)


def _median(run: Callable[[], Tensor], options: GpuOptions) -> float:
    """Seconds."""
    seconds = []
    for _ in range(options.steps):
        _wait(options)
        started = time.perf_counter()
        run()
        _wait(options)
        seconds.append(time.perf_counter() - started)
    return sorted(seconds)[len(seconds) // 2]


def _wait(options: GpuOptions) -> None:
    if options.device.startswith("cuda"):
        torch.cuda.synchronize()
