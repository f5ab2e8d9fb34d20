"""What commands show to an orchestrator: from the environment, where no process list has it."""

import os
from pathlib import Path
from typing import Any

VARIABLES = {
    "token": "PACELINE_TOKEN",
    "ca": "PACELINE_CA",
    "certificate": "PACELINE_CERTIFICATE",
    "key": "PACELINE_KEY",
}
"""By what Client calls them."""


def access(ca: Path | None = None) -> dict[str, Any]:
    """What Client takes. ca: before the environment's."""
    given = {name: os.environ.get(variable) or None for name, variable in VARIABLES.items()}
    return given | ({"ca": ca} if ca is not None else {})
