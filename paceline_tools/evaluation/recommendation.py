"""What to do with a candidate, in words, and why, in numbers. Pure."""

import enum
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from paceline_tools.evaluation.prediction import Prediction
from paceline_tools.evaluation.recording import Recording

PAYS = 1.05
"""A speed-up that is worth a draft."""


class Use(enum.Enum):
    """What to do."""

    USE = "use"
    USE_FOR_SOME = "use for some"
    DO_NOT_USE = "do not use"
    NOT_TRIED = "not tried"
    CANNOT_TELL = "cannot tell"


@dataclass(frozen=True, slots=True)
class Recommendation:
    """words: one sentence. reasons: figures behind it."""

    choice: Use
    words: str
    reasons: tuple[str, ...] = ()

    @property
    def use(self) -> bool:
        """Whether the draft is worth having, for some prompts at least."""
        return self.choice in {Use.USE, Use.USE_FOR_SOME}


def unfit(problem: str) -> Recommendation:
    """Of a candidate that cannot draft for the target."""
    return Recommendation(Use.DO_NOT_USE, f"do not use: {problem}")


def not_tried(failure: str) -> Recommendation:
    """Of a candidate that something else kept from being tried: no verdict."""
    return Recommendation(Use.NOT_TRIED, f"not tried, so there is no verdict on it: {failure}")


def cannot_tell(measured: str, predicted: Recommendation, reasons: Sequence[str]) -> Recommendation:
    """Of a candidate whose measurement says one thing, not surely, and its prediction another."""
    words = (
        f"cannot tell: measured {measured}, and as predicted {predicted.words.partition(';')[0]}; "
        "give more prompts (--prompts), or a quieter machine"
    )
    return Recommendation(Use.CANNOT_TELL, words, tuple(reasons))


def judge(
    effect: Mapping[str, float], how: str, recording: Recording, prediction: Prediction
) -> Recommendation:
    """effect: speed-up by kind, "all" included, and `how` it is known: measured or predicted.

    What was measured counts only up to what its right draft tokens can bring: on a busy machine any
    two runs differ.
    """
    known = f"{how}: {_by_kind(effect)}"
    most = {kind: recording.ceiling(kind) for kind in effect}
    if any(effect[kind] > most[kind] for kind in effect):
        known += f"; counted only up to what its draft tokens can bring: {_by_kind(most)}"
    effect = {kind: min(value, most[kind]) for kind, value in effect.items()}
    kinds = [kind for kind in effect if kind != "all"]
    good = [kind for kind in kinds if effect[kind] >= PAYS]
    reasons = (known, *_reasons(recording, prediction))
    if len(good) == len(kinds):
        return Recommendation(Use.USE, f"use: {effect['all']:.2f}x", reasons)
    if good:
        there = ", ".join(f"{kind} {effect[kind]:.2f}x" for kind in good)
        rest = ", ".join(f"{kind} {effect[kind]:.2f}x" for kind in kinds if kind not in good)
        words = f"use only for {', '.join(good)}: {there}; the others gain nothing: {rest}"
        return Recommendation(Use.USE_FOR_SOME, words, reasons)
    forced = max(speeds["all"] for length, speeds in prediction.fixed.items() if length)
    worst = min(effect["all"], forced)
    words = f"do not use: it would be {worst:.2f}x"
    if worst < effect["all"]:
        words += f" at its best draft length, and {effect['all']:.2f}x as the pacer holds it back"
    return Recommendation(Use.DO_NOT_USE, words, reasons)


def break_even(recording: Recording, round_trip: float) -> float:
    """Share of first draft tokens that must be right for a wait for one to pay, on shared cores.

    One draft token saves an ordinary decode step where it is right, and costs a draft step, the
    round trip and its verification.
    """
    target, draft = recording.target_costs, recording.draft_costs
    return (draft.step + round_trip + target.verify_token) / target.step


def _by_kind(effect: Mapping[str, float]) -> str:
    kinds = ", ".join(f"{kind} {value:.2f}x" for kind, value in effect.items() if kind != "all")
    return f"{effect['all']:.2f}x ({kinds})"


def _reasons(recording: Recording, prediction: Prediction) -> tuple[str, ...]:
    target, draft = recording.target_costs, recording.draft_costs
    rates = ", ".join(f"{kind} {recording.acceptance(kind):.2f}" for kind in recording.kinds)
    length = prediction.best_length()
    needed = break_even(recording, draft.round_trip)
    return (
        f"{recording.acceptance():.2f} of its draft tokens are the target's token ({rates}); "
        f"it drafts at {recording.coverage():.0%} of the positions",
        f"a draft token takes {draft.step * 1e3:.1f} ms and a round trip of "
        f"{draft.round_trip * 1e3:.1f} ms, a step of the target {target.step * 1e3:.1f} ms: "
        f"where they take turns, {needed:.2f} of first draft tokens must be right for one to pay",
        f"the best fixed draft length is {length}, predicted {prediction.fixed[length]['all']:.2f}x"
        f"; as the pacer decides {prediction.paced['all']:.2f}x",
    )
