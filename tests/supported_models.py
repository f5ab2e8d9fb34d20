"""python -m tests.supported_models: tries all models anew; writes their table, and its page."""

import json
import re
import tempfile
from collections import defaultdict
from pathlib import Path

import torch

from paceline.engine.torch.architectures import read_config
from paceline.engine.torch.loading import load_model
from paceline.engine.torch.text_part import text_config
from paceline.errors import FailedPrecondition
from paceline.model_files.model_types import NOT_TRIED, SERVED, SERVED_TEXT, TABLE
from tests.tiny_architectures import MODEL_TYPES, NOT_BUILT, tiny_architecture

PAGE = Path(__file__).parents[1] / "docs" / "models.md"
_RANK = {SERVED: 0, SERVED_TEXT: 1}
BEGIN, END = "<!-- python -m tests.supported_models -->\n", "<!-- end -->\n"


def outcome(model_type: str, folder: Path) -> str:
    """SERVED, SERVED_TEXT, or in short why not. folder: an empty one; the model stays there."""
    tiny_architecture(model_type).save_pretrained(folder)
    try:
        load_model(folder, torch.float64)
    except FailedPrecondition as error:
        return reason(str(error))
    config = read_config(folder)
    return SERVED if text_config(config) is config else SERVED_TEXT


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


def tried() -> dict[str, list[str]]:
    """Model types by outcome: those that are served, then the others, most of a kind first."""
    by_outcome: dict[str, list[str]] = defaultdict(list)
    for model_type in MODEL_TYPES:
        if model_type in NOT_BUILT:
            by_outcome[f"{NOT_TRIED}: {NOT_BUILT[model_type]}"].append(model_type)
            continue
        with tempfile.TemporaryDirectory() as folder:
            by_outcome[outcome(model_type, Path(folder))].append(model_type)
    order = sorted(by_outcome, key=lambda one: (_RANK.get(one, 2), -len(by_outcome[one])))
    return {one: by_outcome[one] for one in order}


def page() -> str:
    """The page, with the table as it stands in the package."""
    table: dict[str, list[str]] = json.loads(TABLE.read_text("utf-8"))
    rows = [
        f"| {one} | {', '.join(f'`{name}`' for name in names)} |" for one, names in table.items()
    ]
    lines = "\n".join(["| | models |", "|---|---|", *rows])
    before, _, rest = PAGE.read_text("utf-8").partition(BEGIN)
    return f"{before}{BEGIN}{lines}\n{END}{rest.partition(END)[2]}"


if __name__ == "__main__":
    TABLE.write_text(json.dumps(tried(), indent=1) + "\n")
    PAGE.write_text(page())
