"""For plain `vllm serve`: drafts of a draft server, without an orchestrator (docs/vllm.md).

Scheduler is what --scheduler-cls names; NoDrafts is the model of --speculative-config.
"""

from typing import Any

from paceline.engine.vllm.no_drafts import NoDrafts

__all__ = ["NoDrafts", "Scheduler"]


def __getattr__(name: str) -> Any:
    """Scheduler is loaded when it is named: its base class is vLLM's."""
    if name == "Scheduler":
        from paceline.vllm.scheduler import DraftingScheduler

        return DraftingScheduler
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
