"""How long an evaluation takes in all, from what it has done so far. Pure but for its clock."""

from collections.abc import Callable
from dataclasses import dataclass, field

from paceline_tools.evaluation.recorder import COSTED_OUTPUTS

ALONE_COST, DRAFT_COST, SCORE_COST = 0.5, 0.5, 0.2
"""Of an output of a small model alone, of one drafted along, of one scored: in the target's own."""
MEASURED_RUNS, ALONE_RUNS = 4, 2
"""Outputs of each prompt: off, auto, auto, off; and of a candidate alone."""


@dataclass(frozen=True, slots=True)
class EvaluationPlan:
    """What is to be done. with_model: candidates that have one, of all."""

    prompts: int
    candidates: int
    with_model: int
    measure: bool
    alone: bool

    @property
    def units(self) -> float:
        """All of it, in outputs of the target to one prompt."""
        target = self.prompts + min(COSTED_OUTPUTS, self.prompts)
        each = self.prompts * (DRAFT_COST + (MEASURED_RUNS if self.measure else 0))
        alone = self.prompts * (ALONE_RUNS * ALONE_COST + SCORE_COST) if self._serves_alone else 0.0
        scored = self.prompts * SCORE_COST if self.alone else 0.0
        return target + scored + self.candidates * each + self.with_model * alone

    @property
    def _serves_alone(self) -> bool:
        return self.alone and self.measure

    def __str__(self) -> str:
        """In words, before anything is known of how long it takes."""
        outputs = self.prompts * (MEASURED_RUNS if self.measure else 1)
        each = f"{self.candidates} candidate{'s' if self.candidates > 1 else ''}"
        what = f"{each}, {self.prompts} prompts, {outputs} outputs measured for each candidate"
        return f"{what}; how long it takes is said once the target has answered the first prompt"


@dataclass(slots=True)
class Duration:
    """Work done, and what that says of the rest. now: seconds of a clock."""

    plan: EvaluationPlan
    now: Callable[[], float]
    done: float = 0.0
    worked: float = 0.0
    since: float = field(default=0.0)

    def begin(self) -> None:
        """Work of known length begins; what was before it, as loading, does not count."""
        self.since = self.now()

    def advance(self, units: float) -> None:
        """So much is done since `begin`, or since the last time."""
        now = self.now()
        self.worked, self.since, self.done = self.worked + now - self.since, now, self.done + units

    @property
    def total_seconds(self) -> float:
        """Of all work, loading left out; 0 before any is done."""
        return self.worked * self.plan.units / self.done if self.done else 0.0

    @property
    def left_seconds(self) -> float:
        """Of what is not done yet."""
        return max(0.0, self.total_seconds - self.worked)


def about(seconds: float) -> str:
    """A time that is a guess: `a moment`, `about 40 s`, `about 12 min`."""
    if seconds < 5:
        return "a moment"
    if seconds < 90:
        return f"about {max(10, round(seconds, -1)):.0f} s"
    return f"about {seconds / 60:.0f} min"
