"""The drafters that there are. Commands read their names here: it loads neither numpy nor torch."""

from collections.abc import Callable
from dataclasses import dataclass
from pkgutil import resolve_name
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from draft_server.drafters.base import DraftContext, StreamDrafter


@dataclass(frozen=True, slots=True)
class DrafterKind:
    """One kind of drafter. path: module and class, which is made from a DraftContext.

    summary: what it drafts from, for the help. needs_model: without, no weights are loaded.
    """

    path: str
    summary: str
    needs_model: bool = True

    def load(self) -> "Callable[[DraftContext], StreamDrafter]":
        """The class; imports its module."""
        found: Callable[[DraftContext], StreamDrafter] = resolve_name(self.path)
        return found


DRAFTERS = {
    "model": DrafterKind("draft_server.drafters.model:ModelDrafter", "the draft model"),
    "ngram": DrafterKind(
        "draft_server.drafters.ngram:NgramDrafter",
        "prompt lookup of what followed the same tokens before, in the stream and in recent ones",
        needs_model=False,
    ),
    "hybrid": DrafterKind(
        "draft_server.drafters.hybrid:HybridDrafter",
        "prompt lookup where many tokens match, else the draft model",
    ),
}
"""By the name that flags, recordings and candidates have."""
MODEL, DEFAULT = "model", "hybrid"
"""What a model alone stands for; what drafts unless something else is named."""
SUMMARY = "; ".join(f"{name}: {kind.summary}" for name, kind in DRAFTERS.items())
"""All of them, for the help."""

if TYPE_CHECKING:
    DrafterName = str
else:
    DrafterName = Literal[tuple(DRAFTERS)]
"""The type of a setting that names one."""
