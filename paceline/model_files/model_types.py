"""Which of transformers' decoders are served, and why others are not; a test holds it."""

import functools
import json
import re
from pathlib import Path

TABLE = Path(__file__).with_name("model_types.json")
"""Model types by outcome. tests/supported_models.py writes it, and docs/models.md from it."""
SERVED = "served"
SERVED_TEXT = "served, its text part: prompts of text alone"
NOT_TRIED = "not tried"
_COMMON = ("llama", "mistral", "qwen2", "qwen3", "gemma3_text")


@functools.cache
def outcomes() -> dict[str, str]:
    """What becomes of each model type: SERVED, SERVED_TEXT, or in short why not."""
    table: dict[str, list[str]] = json.loads(TABLE.read_text("utf-8"))
    return {name: outcome for outcome, names in table.items() for name in names}


def nearest_served(model_type: str) -> str:
    """The model types that are served of the family whose name it begins with, or common ones."""
    served = sorted(name for name, outcome in outcomes().items() if outcome == SERVED)
    stem = re.split("[_-]", model_type)[0]
    for beginning in (stem, stem.rstrip("0123456789")):
        if near := [name for name in served if name.startswith(beginning)]:
            return ", ".join(near[:3])
    return ", ".join(_COMMON)
