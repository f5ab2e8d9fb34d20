"""What to do with a candidate, in words, and why, in numbers. Pure."""

import enum
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from paceline_tools.bench.report import Ratio
from paceline_tools.evaluation.prediction import Prediction
from paceline_tools.evaluation.recording import Recording

PAYS = 1.05
"""A speed-up that is worth a draft."""
MEASURED, PREDICTED = "measured", "predicted"


class Use(enum.Enum):
    """What to do."""

    USE = "use"
    USE_FOR_SOME = "use for some"
    DO_NOT_USE = "do not use"
    NOT_TRIED = "not tried"
    CANNOT_TELL = "cannot tell"


@dataclass(frozen=True, slots=True)
class Recommendation:
    """words: one sentence. reasons: figures behind it. speedup: over all prompts, as it counts."""

    choice: Use
    words: str
    reasons: tuple[str, ...] = ()
    speedup: float = 0.0

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


def judge(
    effect: Mapping[str, Ratio], how: str, recording: Recording, prediction: Prediction
) -> Recommendation:
    """effect: speed-up by kind, "all" included, and `how` it is known: measured or predicted.

    An interval with 1 in it is no result, unless that of the prediction is one and agrees.
    """
    counted = _counted(effect, recording)
    found = _verdict(counted, prediction)
    reasons = [_known(effect, how, prediction)]
    if any(counted[kind].ratio < effect[kind].ratio for kind in effect):
        reasons.append(_capped(counted, how))
    unsure = _unsure(found.choice, counted, how)
    if unsure and how == MEASURED:
        predicted = _counted(prediction.intervals, recording)
        if all(_sure(found.choice, predicted[kind]) for kind in unsure):
            reasons.append(_confirmed(unsure, predicted, found))
            unsure = []
    if unsure:
        words = _cannot_tell(unsure, effect, how, prediction)
        found = replace(found, choice=Use.CANNOT_TELL, words=words)
    return replace(found, reasons=(*reasons, *_reasons(recording, prediction)))


def _counted(effect: Mapping[str, Ratio], recording: Recording) -> dict[str, Ratio]:
    """Each kind up to what its right draft tokens can save: on a busy machine any two runs differ.

    Where that takes from a kind, it takes from all prompts too.
    """
    kinds = {
        kind: _at_most(one, recording.ceiling(kind))
        for kind, one in effect.items()
        if kind != "all"
    }
    most = recording.ceiling()
    if any(kinds[kind].ratio < effect[kind].ratio for kind in kinds):
        logs = sum(one.prompts * math.log(one.ratio) for one in kinds.values())
        most = min(most, math.exp(logs / sum(one.prompts for one in kinds.values())))
    return {"all": _at_most(effect["all"], most), **kinds}


def _at_most(one: Ratio, most: float) -> Ratio:
    return Ratio(min(one.ratio, most), min(one.low, most), min(one.high, most), one.prompts)


def _verdict(counted: Mapping[str, Ratio], prediction: Prediction) -> Recommendation:
    """What to do if all figures were sure."""
    over = counted["all"].ratio
    kinds = [kind for kind in counted if kind != "all"]
    good = [kind for kind in kinds if counted[kind].ratio >= PAYS]
    if len(good) == len(kinds):
        return Recommendation(Use.USE, f"use: {over:.2f}x", (), over)
    if good:
        there, rest = _each(good, counted), _each((k for k in kinds if k not in good), counted)
        words = f"use only for {', '.join(good)}: {there}; the others gain nothing: {rest}; "
        return Recommendation(Use.USE_FOR_SOME, f"{words}together {over:.2f}x", (), over)
    forced = max(speeds["all"] for length, speeds in prediction.fixed.items() if length)
    worst = min(over, forced)
    words = f"do not use: it would be {worst:.2f}x"
    if worst < over:
        words += f" at its best draft length, and {over:.2f}x as the pacer holds it back"
    return Recommendation(Use.DO_NOT_USE, words, (), over)


def _unsure(choice: Use, counted: Mapping[str, Ratio], how: str) -> list[str]:
    """Figures that leave it open: that over all prompts, or those of the kinds it is for."""
    kinds = ["all"]
    if choice is Use.USE_FOR_SOME:
        kinds = [kind for kind, one in counted.items() if kind != "all" and one.ratio >= PAYS]
    if how == MEASURED:
        return [kind for kind in kinds if counted[kind].low < 1.0 < counted[kind].high]
    return [kind for kind in kinds if not _sure(choice, counted[kind])]


def _sure(choice: Use, one: Ratio) -> bool:
    """Whether a prediction says so with all of its interval."""
    if choice is Use.DO_NOT_USE:
        return one.high < PAYS
    return one.ratio >= PAYS and one.low > 1.0


def _known(effect: Mapping[str, Ratio], how: str, prediction: Prediction) -> str:
    """All that is known of the speed-up, by the name of how it is known."""
    known = f"{how} {_by_kind(effect)}"
    return known if how != MEASURED else f"{known}; {PREDICTED} {_by_kind(prediction.intervals)}"


def _capped(counted: Mapping[str, Ratio], how: str) -> str:
    kinds = _each((kind for kind in counted if kind != "all"), counted)
    return (
        f"{counted['all'].ratio:.2f}x counts ({kinds}): its right draft tokens save no more steps "
        f"of the target than that, and what was {how.partition(' ')[0]} above it is noise"
    )


def _confirmed(unsure: list[str], predicted: Mapping[str, Ratio], found: Recommendation) -> str:
    where = "above 1" if found.use else f"below {PAYS}, which is the least that pays"
    ends = ", ".join(f"{predicted[kind].low:.2f}-{predicted[kind].high:.2f}" for kind in unsure)
    return (
        f"what was measured leaves it open, as 1 is in its interval; the prediction decides: it "
        f"agrees, and its interval lies {where}: {ends}"
    )


def _cannot_tell(
    unsure: list[str], effect: Mapping[str, Ratio], how: str, prediction: Prediction
) -> str:
    """What leaves it open."""
    known = {how: effect} | ({PREDICTED: prediction.intervals} if how == MEASURED else {})
    figures = ", ".join(
        f"{name} {'' if kind == 'all' else f'{kind} '}{_interval(ratios[kind])}"
        for name, ratios in known.items()
        for kind in unsure
    )
    quieter = ", or a quieter machine" if how == MEASURED else ""
    return f"cannot tell: {figures}; give more prompts (--prompts){quieter}"


def break_even(recording: Recording, round_trip: float) -> float:
    """Share of first draft tokens that must be right for a wait for one to pay, on shared cores.

    One draft token saves an ordinary decode step where it is right, and costs a draft step, the
    round trip and its verification.
    """
    target, draft = recording.target_costs, recording.draft_costs
    return (draft.step + round_trip + target.verify_token) / target.step


def _interval(one: Ratio) -> str:
    return f"{one.ratio:.2f}x (95 % {one.low:.2f}-{one.high:.2f})"


def _by_kind(effect: Mapping[str, Ratio]) -> str:
    kinds = _each((kind for kind in effect if kind != "all"), effect)
    over = effect["all"]
    return f"{over.ratio:.2f}x (95 % {over.low:.2f}-{over.high:.2f}; {kinds})"


def _each(kinds: Iterable[str], effect: Mapping[str, Ratio]) -> str:
    return ", ".join(f"{kind} {effect[kind].ratio:.2f}x" for kind in kinds)


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
        f"the best fixed draft length is {length}, predicted "
        f"{prediction.fixed[length]['all']:.2f}x",
    )
