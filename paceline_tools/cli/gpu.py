"""What a model on a GPU would need that this machine lacks, told without torch."""

from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec

from paceline_tools.cli.devices import has_driver
from paceline_tools.cli.findings import Finding, Level

NEEDS = (
    "--device cuda needs a GPU's driver, torch built for it with its Triton, and on the GPU memory "
    "for the weights and for the KV of --kv-tokens"
)


def gpu() -> Finding:
    """What there is of it; none is nothing wrong: models run on the CPU.

    What one needs is told where it is there and cannot be used.
    """
    missing = [*_missing()]
    if missing:
        what = f"none can be used here: {', '.join(missing)}"
        return Finding(Level.OK, "GPU", what, NEEDS if has_driver() else "")
    return Finding(Level.OK, "GPU", f"a driver, torch {_torch()} and Triton are here")


def _missing() -> list[str]:
    found = _torch()
    lacks = {
        "no driver of a GPU": not has_driver(),
        "no torch": found is None,
        f"torch {found} is built without one": found is not None and found.endswith("+cpu"),
        "no Triton": find_spec("triton") is None,
    }
    return [what for what, is_so in lacks.items() if is_so]


def _torch() -> str | None:
    """Its version."""
    try:
        return version("torch")
    except PackageNotFoundError:
        return None
