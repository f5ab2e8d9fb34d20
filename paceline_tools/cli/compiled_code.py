"""Whether targets on this machine's CPU have our C, without which they take many times as long."""

from importlib.util import find_spec

from paceline.engine.compiling import is_at_hand
from paceline.engine.torch.native.library import ALL
from paceline.errors import FailedPrecondition
from paceline_tools.cli.findings import Finding, Level

ADVICE = (
    "install a C compiler (Debian and Ubuntu: gcc) and start them again: without it steps take "
    "longer, on a CPU with AVX2 alone up to eight times"
)


def compiled_code() -> list[Finding]:
    """A line for an x86-64 CPU with AVX2; none for others, and where there is no torch."""
    if find_spec("torch") is None:
        return []
    try:
        needed = [code for code in ALL if code.runs_here]
    except FailedPrecondition:  # a system that does not say what its CPU has is not Linux
        return []
    if not needed:
        return []
    missing = [code.source for code in needed if not is_at_hand(*code.compiled_from)]
    if missing:
        what = f"{', '.join(missing)} cannot be compiled: there is no C compiler, cc, on the PATH"
        return [Finding(Level.NOTE, "targets on this CPU", what, ADVICE)]
    return [Finding(Level.OK, "targets on this CPU", "all that they have in C is at hand")]
