"""python -m tests.supported_models: writes docs/models.md anew."""

import re
import tempfile
from collections import defaultdict
from pathlib import Path

import torch

from paceline.engine.torch.loading import load_model
from paceline.errors import FailedPrecondition
from tests.tiny_architectures import MODEL_TYPES, NOT_BUILT, tiny_architecture

PAGE = Path(__file__).parents[1] / "docs" / "models.md"
SERVED = "served"
HEAD = """\
# Models

Every causal language model of transformers 5.23, by `model_type` of its config.json. Each was made
tiny, with random weights: those that are served give transformers' logits to 1e-6 in float64, in
pieces, beside other sessions and after a rollback; all others are refused when they are loaded,
with the reason here. Tests hold both. To make this page anew:

```
.venv/bin/python -m tests.supported_models
```

"""


def outcome(model_type: str, folder: Path) -> str:
    """SERVED, or in short why not. folder: an empty one; the model stays there."""
    tiny_architecture(model_type).save_pretrained(folder)
    try:
        load_model(folder, torch.float64)
    except FailedPrecondition as error:
        return reason(str(error))
    return SERVED


def reason(error: str) -> str:
    """Of an error's text what says why, without names and numbers of one model."""
    for found, said in (
        (r"has (.*); only decoders", r"\1"),
        (r"attends (by code of its own|more than once in a layer)", r"attends \1"),
        (r"attention asks for ([a-z_, ]*), which", r"attention asks for \1"),
        (r"not computed right", "needs positions or masks of another kind"),
        (r"most positions", "names no most positions"),
    ):
        if match := re.search(found, error):
            return match.expand(said)
    return "cannot be loaded alone"


def documented() -> dict[str, str]:
    """What the page says of each model."""
    outcomes: dict[str, str] = {}
    for line in PAGE.read_text().splitlines():
        if match := re.fullmatch(r"\| (.*) \| (`.*`) \|", line):
            outcomes |= dict.fromkeys(re.findall(r"`([^`]*)`", match[2]), match[1])
    return outcomes


def page() -> str:
    """The whole page."""
    by_outcome: dict[str, list[str]] = defaultdict(list)
    for model_type in MODEL_TYPES:
        if model_type in NOT_BUILT:
            by_outcome[f"not tried: {NOT_BUILT[model_type]}"].append(model_type)
            continue
        with tempfile.TemporaryDirectory() as folder:
            by_outcome[outcome(model_type, Path(folder))].append(model_type)
    order = sorted(by_outcome, key=lambda one: (one != SERVED, -len(by_outcome[one])))
    rows = [f"| {one} | {', '.join(f'`{name}`' for name in by_outcome[one])} |" for one in order]
    return HEAD + "\n".join(["| | models |", "|---|---|", *rows]) + "\n"


if __name__ == "__main__":
    PAGE.write_text(page())
