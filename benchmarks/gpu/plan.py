"""Which parts a day has, in the order of their weight, and how long each may take."""

from collections.abc import Iterator
from dataclasses import dataclass

from benchmarks.gpu.shapes import SHAPES

AIMED = "0.8"
"""The agreement that aims are of."""
OTHERS = ("0.6", "0.9")
ROOM = 1.25
"""Of the weights, for KV and what is computed."""


@dataclass(frozen=True, slots=True)
class Part:
    """A part with its arguments.

    seconds: it is killed then; least: it is not begun with less. bytes: of the device, it needs.
    """

    name: str
    arguments: tuple[str, ...]
    seconds: float
    least: float = 10.0
    bytes: float = 0.0

    @property
    def key(self) -> str:
        """What its figures are called."""
        return ":".join((self.name, *self.arguments))


def plan(shapes: list[str], device: str) -> Iterator[Part]:
    """Correctness first, then the shapes in their order, other agreements last."""
    yield Part("machine", (), 60)
    first, *others = shapes
    yield Part("pair", (first, AIMED, *OTHERS), 90, bytes=_bytes(first))
    yield Part("exact", (first, AIMED), 90, bytes=_bytes(first))
    yield Part("tests", (), 120)
    yield Part("greedy", (first, AIMED), 90, bytes=2 * _bytes(first))
    yield Part("products", (first,), 60)
    yield from _speed(first, device)
    for shape in others:
        yield Part("pair", (shape, AIMED), 120, 40, _bytes(shape))
        yield from _speed(shape, device)
    for agreement in OTHERS if first != "tiny" else ():
        yield Part("serving", (first, agreement, device), 120, 40, _bytes(first))


def _bytes(shape: str) -> float:
    return ROOM * SHAPES[shape].bytes


def _speed(shape: str, device: str) -> Iterator[Part]:
    """Steps, then servers with the draft on the target's device, and on the CPU."""
    yield Part("steps", (shape, AIMED), 90, 20, _bytes(shape))
    for draft in dict.fromkeys((device, "cpu")):
        yield Part("serving", (shape, AIMED, draft), 120, 40, _bytes(shape))
