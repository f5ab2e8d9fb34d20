"""The compiled step as an engine of prepared drafts."""

from collections.abc import Mapping

from paceline.engine.compiled.library import library, release
from paceline.engine.compiled.runner import CompiledRunner
from paceline.engine.compiled.shape import GROUP, MOST_HEAD, WIDTH
from paceline.engine.prepared.draft_file import DraftShape, PreparedDraft
from paceline.engine.prepared.interface import PreparedRunner, Tensor
from paceline.errors import FailedPrecondition

_MULTIPLES = {"out": WIDTH, "gate_up": 2 * WIDTH, "down": WIDTH}
"""Of outputs of layers whose blocks are added to, or multiplied with, numbers beside them."""


class CompiledEngine:
    """See PreparedEngine."""

    name = "compiled"

    def why_not(self) -> str:
        """See PreparedEngine."""
        try:
            library()
        except FailedPrecondition as error:
            return str(error)
        return ""

    def release(self) -> str:
        """See PreparedEngine."""
        return release()

    def check(self, shape: DraftShape) -> None:
        """See PreparedEngine."""
        if shape.head_dim % GROUP or shape.head_dim > MOST_HEAD:
            limit = f"a multiple of {GROUP} up to {MOST_HEAD}"
            raise FailedPrecondition(f"head_dim is {shape.head_dim}; it must be {limit}")

    def quantized(self, name: str, weight: Tensor, bias: Tensor | None) -> Mapping[str, Tensor]:
        """See PreparedEngine."""
        from paceline.engine.compiled.quantization import filled, packed  # need torch

        rows = _MULTIPLES.get(name.rpartition(".")[2], 1)
        if weight.shape[1] % GROUP or weight.shape[0] % rows:
            limit = f"its columns a multiple of {GROUP} and its rows of {rows}"
            what = f"{name} has shape {tuple(weight.shape)}; it must have {limit}"
            raise FailedPrecondition(what)
        tensors = {name: packed(weight)}
        if bias is not None:
            tensors[f"{name}.bias"] = filled(bias.float())
        return tensors

    def runner(self, draft: PreparedDraft, threads: int, pages: int) -> PreparedRunner:
        """See PreparedEngine."""
        return CompiledRunner(draft, threads, pages)
