"""How to serve as recommended, to be copied. Pure."""

import shlex
from dataclasses import dataclass
from pathlib import PurePath

from draft_server.drafters.registry import MODEL
from orchestrator.settings import DEFAULT_POOL, is_pool_name
from paceline_tools.evaluation.candidates import DraftCandidate, parse_candidate

USUAL_DTYPE = "bfloat16"


@dataclass(frozen=True, slots=True)
class Setting:
    """command: `paceline up` and its flags. variables: of servers that are started apart."""

    command: tuple[str, ...]
    variables: tuple[str, ...]

    def __str__(self) -> str:
        """The command, in one line."""
        return shlex.join(self.command)

    def in_lines(self, width: int) -> str:
        """The command in lines for a shell; a word that is longer than one is not cut."""
        lines = [""]
        for word in map(shlex.quote, self.command):
            if len(lines[-1]) + len(word) + 3 > width:
                lines.append(" ")
            lines[-1] += f" {word}" if lines[-1] else word
        return " \\\n".join(lines)


def target_alone(target: str, dtype: str) -> Setting:
    """Without a draft."""
    flags = ("--target", target, "--draft", "none", *_dtype_flag(dtype))
    variables = (*_target_variables(target, dtype), "PACELINE_ORCHESTRATOR_DRAFT=")
    return Setting(("paceline", "up", *flags), variables)


def with_draft(target: str, candidate: DraftCandidate, dtype: str, draft_length: int) -> Setting:
    """With a candidate. draft_length: where speculation is forced; else the pacer decides."""
    drafter, model, weights = candidate.drafter, candidate.model, candidate.weights
    flags = ["--target", target, "--draft", _spec(candidate)]
    if drafter == MODEL:
        flags += ["--drafter", drafter]
    flags += ["--draft-length", str(draft_length)]
    named = {"DRAFTER": drafter}
    if model:
        named |= {"MODEL": model, "WEIGHTS": weights, **_dtype_variable(dtype)}
    variables = (
        *_target_variables(target, dtype),
        *(_variable(f"DRAFT_{name}", value) for name, value in named.items()),
        _variable("ORCHESTRATOR_DRAFT_LENGTH", str(draft_length)),
    )
    return Setting(("paceline", "up", *flags, *_dtype_flag(dtype)), variables)


def _spec(candidate: DraftCandidate) -> str:
    """The draft as --draft has it: with its name, where one was given that a pool can have."""
    form = "" if candidate.drafter == MODEL else candidate.drafter
    model = f"{candidate.model}:{candidate.weights}" if candidate.model else ""
    spec = ":".join(filter(None, (form, model)))
    own = parse_candidate(spec)
    if is_pool_name(candidate.name) and candidate.name not in {own.name, _last(candidate.model)}:
        return f"{candidate.name}={spec}"
    return spec if own.model == candidate.model else f"{DEFAULT_POOL}={spec}"


def _last(model: str) -> str:
    return PurePath(model).name


def _target_variables(target: str, dtype: str) -> list[str]:
    named = {"MODEL": target, **_dtype_variable(dtype)}
    return [_variable(f"TARGET_{name}", value) for name, value in named.items()]


def _variable(name: str, value: str) -> str:
    return f"PACELINE_{name}={shlex.quote(value)}"


def _dtype_flag(dtype: str) -> tuple[str, ...]:
    return () if dtype == USUAL_DTYPE else ("--dtype", dtype)


def _dtype_variable(dtype: str) -> dict[str, str]:
    return {} if dtype == USUAL_DTYPE else {"DTYPE": dtype}
