"""What an operator can tell vLLM."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

ADAPTER_CONFIG = "adapter_config.json"
"""What a folder of a LoRA adapter has beside its weights, as peft writes it."""


@dataclass(frozen=True, slots=True)
class VllmSettings:
    """adapter: folder of a LoRA adapter, or empty. arguments: of vLLM's EngineArgs."""

    tensor_parallel_size: int = 1
    pipeline_parallel_size: int = 1
    adapter: str = ""
    arguments: Mapping[str, Any] = field(default_factory=dict)
