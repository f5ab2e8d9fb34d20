"""What an engine is that runs prepared drafts."""

from collections.abc import Mapping
from typing import Any, Protocol

from paceline.engine.interfaces import Runner
from paceline.engine.prepared.draft_file import DraftShape, PreparedDraft

Tensor = Any
"""One of torch, which only those need who prepare a draft."""


class PreparedRunner(Runner, Protocol):
    """A draft's Runner: its rows may depend on their batch."""

    @property
    def token_bytes(self) -> int:
        """Bytes of KV of a token."""


class PreparedEngine(Protocol):
    """Makes a draft's file, and runs it."""

    @property
    def name(self) -> str:
        """As --engine has it."""

    def why_not(self) -> str:
        """What this machine lacks for it; empty where it has all."""

    def release(self) -> str:
        """Of what a measurement holds for; only where it lacks nothing."""

    def check(self, shape: DraftShape) -> None:
        """Raise FailedPrecondition, naming the number, for a model that it does not run."""

    def quantized(self, name: str, weight: Tensor, bias: Tensor | None) -> Mapping[str, Tensor]:
        """What the file has of a linear layer, weight [out, in], by name; needs torch.

        Raises FailedPrecondition, naming the shape, for one that it does not run.
        """

    def runner(self, draft: PreparedDraft, threads: int, pages: int) -> PreparedRunner:
        """Read the file's weights; pages: of KV, at first."""
