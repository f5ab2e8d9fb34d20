"""The proposer that vLLM is told of: drafts come from draft servers, never from its workers."""

from typing import Any

PATH = f"{__name__}.NoDrafts"
"""As speculative_config names it."""


class NoDrafts:
    """Proposes nothing, and needs no weights."""

    def __init__(self, vllm_config: Any) -> None:
        """vllm_config: vLLM's own."""

    def load_model(self, *args: Any, **named: Any) -> None:
        """There is none."""

    def propose(self, sampled_token_ids: list[list[int]], *args: Any, **named: Any) -> Any:
        """No draft token for any request."""
        return [[] for _ in sampled_token_ids]
