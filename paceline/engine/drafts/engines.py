"""The engines of prepared drafts, and what stands beside them."""

from paceline.engine.compiled.engine import CompiledEngine
from paceline.engine.openvino.engine import OpenvinoEngine
from paceline.engine.prepared.interface import PreparedEngine

TORCH = "torch"
"""What drafts are measured against: it needs no preparation, and runs all models."""
_ALL: tuple[PreparedEngine, ...] = (CompiledEngine(), OpenvinoEngine())
ENGINES: dict[str, PreparedEngine] = {engine.name: engine for engine in _ALL}


def possible() -> list[PreparedEngine]:
    """Those for which this machine has all."""
    return [engine for engine in ENGINES.values() if not engine.why_not()]
