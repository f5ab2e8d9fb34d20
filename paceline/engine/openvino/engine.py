"""OpenVINO as an engine of prepared drafts."""

from collections.abc import Mapping
from importlib.metadata import version
from importlib.util import find_spec

from paceline.engine.openvino.shape import GROUP
from paceline.engine.prepared.draft_file import DraftShape, PreparedDraft
from paceline.engine.prepared.interface import PreparedRunner, Tensor
from paceline.errors import FailedPrecondition


class OpenvinoEngine:
    """See PreparedEngine."""

    name = "openvino"

    def why_not(self) -> str:
        """See PreparedEngine."""
        if find_spec("openvino") is None:
            return "OpenVINO is not installed; run: pip install 'paceline[openvino]'"
        return ""

    def release(self) -> str:
        """See PreparedEngine."""
        return version("openvino")

    def check(self, shape: DraftShape) -> None:
        """It has kernels for all shapes."""

    def quantized(self, name: str, weight: Tensor, bias: Tensor | None) -> Mapping[str, Tensor]:
        """See PreparedEngine."""
        from paceline.engine.openvino.quantization import quantize  # needs torch

        if weight.shape[1] % GROUP or weight.shape[0] % 2:
            limit = f"its columns a multiple of {GROUP} and its rows even"
            what = f"{name} has shape {tuple(weight.shape)}; it must have {limit}"
            raise FailedPrecondition(what)
        found = quantize(weight)
        tensors = {"codes": found.codes, "scales": found.scales, "zeros": found.zeros}
        if bias is not None:
            tensors["bias"] = bias.float()
        return {f"{name}.{part}": tensor for part, tensor in tensors.items()}

    def runner(self, draft: PreparedDraft, threads: int, pages: int) -> PreparedRunner:
        """See PreparedEngine."""
        from paceline.engine.openvino.runner import OpenvinoRunner  # OpenVINO, needed here only

        return OpenvinoRunner(draft, threads, pages)
