"""Whether targets on this machine's CPU have our C, without which they take many times as long."""

from importlib.util import find_spec

from paceline.engine.compiling import CompiledForm, compiled_file
from paceline.engine.torch.native.library import ALL
from paceline.errors import FailedPrecondition
from paceline_tools.cli.findings import Finding, Level

SUBJECT = "targets on this CPU"
ADVICE = (
    "have a C compiler, cc (Debian and Ubuntu: gcc), and start them again: without it steps take "
    "longer, on a CPU with AVX2 alone up to eight times"
)


def compiled_code() -> list[Finding]:
    """A line for an x86-64 CPU with AVX2; none for others, and where there is no torch.

    It compiles what is not there yet, as a target would that starts in this environment.
    """
    if find_spec("torch") is None:
        return []
    try:
        needed = [form for form in ALL if form.runs_here]
    except FailedPrecondition:  # a system that does not say what its CPU has is not Linux
        return []
    refused = [why for form in needed if (why := _refused(form))]
    if refused:
        return [Finding(Level.NOTE, SUBJECT, refused[0], ADVICE)]
    return [Finding(Level.OK, SUBJECT, "all that they have in C is here")] if needed else []


def _refused(form: CompiledForm) -> str:
    """Why it is not here; empty where it is."""
    try:
        compiled_file(*form.compiled_from)
    except FailedPrecondition as error:
        return f"{form.source} is not compiled: {error}"
    return ""
