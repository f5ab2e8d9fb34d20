"""Which pool of drafts a stream gets. Pure.

The preferred one at first; then the one with the best expected gain. A few streams try others
that could be better, so that a pool that became so is found.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from paceline.status import Gain, PoolState

EXPLORE_STREAMS = 20
"""At most one in so many streams explores a pool that is not the best, benched ones included.

A benched pool whose drafts were replaced by better ones is thus found by the first stream after
record.BENCH_PROBE_TOKENS tokens while no other pool can be used; else by one of the next
EXPLORE_STREAMS streams after so many tokens, times the pools that wait to be tried.
"""
UNKNOWN_GAIN = 1.0
"""What a pool is taken for that was not measured yet, beside ones that were."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """A pool that could draft. tokens_to_probe: until it may be tried, where it is benched."""

    name: str
    gain: Gain | None = None
    benched: bool = False
    probing: bool = False
    tokens_to_probe: int = 0


class Selection:
    """Chooses for one stream after the other."""

    def __init__(self) -> None:
        """Begin with nothing known."""
        self._held: str | None = None
        self._given = 0
        self._explorations = 0
        self._explored: dict[str, int] = {}

    def choose(self, candidates: Sequence[Candidate]) -> str | None:
        """The pool for a new stream, of those that can be used, the preferred one first.

        Where all are benched the stream gets one all the same: its pacer begins paused, unless
        it is time for a probe. None: there is none.
        """
        best = self.best(candidates)
        if best is None:
            due = (one for one in candidates if one.benched and not one.tokens_to_probe)
            return next((one.name for one in (*due, *candidates)), None)
        if not _is_absent(self._held, candidates):
            self._held = best.name
        if self._given < EXPLORE_STREAMS - 1:
            return best.name
        worth = [one for one in candidates if one is not best and _is_worth_trying(one, best)]
        return self._explore(worth).name if worth else best.name

    def best(self, candidates: Sequence[Candidate]) -> Candidate | None:
        """The one that most streams get; one that was best stays so until it is surely not."""
        usable = [one for one in candidates if not one.benched]
        if not usable:
            return None
        top = max(usable, key=_expected)  # the first of equals
        held = next((one for one in usable if one.name == self._held), None)
        if held is None or held.gain is None or _is_better(top, held):
            return top
        return held

    def given(self) -> None:
        """A stream has got its draft."""
        self._given += 1

    def _explore(self, worth: list[Candidate]) -> Candidate:
        """The one that was not tried for longest."""
        chosen = min(worth, key=lambda one: self._explored.get(one.name, 0))
        self._given = -1  # the stream that explores is none of those that must come before the next
        self._explorations += 1
        self._explored[chosen.name] = self._explorations
        return chosen


def _is_absent(held: str | None, candidates: Sequence[Candidate]) -> bool:
    """Whether the best one cannot be reached for now: it is not forgotten for that."""
    return held is not None and all(one.name != held for one in candidates)


def _expected(one: Candidate) -> float:
    return UNKNOWN_GAIN if one.gain is None else one.gain.value


def _is_better(one: Candidate, held: Candidate) -> bool:
    """Whether it surely is: this is what keeps the choice from flapping.

    One that was not measured yet is better than one that surely does not pay.
    """
    if one.gain is None:
        return held.gain is not None and held.gain.high < UNKNOWN_GAIN
    return one.gain.low > _expected(held)


def _is_worth_trying(one: Candidate, best: Candidate) -> bool:
    if one.benched:
        return not one.tokens_to_probe
    if best.gain is None:
        return False
    return one.gain is None or one.gain.high > best.gain.value


def standing(one: Candidate, best: Candidate | None) -> tuple[PoolState, str]:
    """How a pool stands that can be used, and why."""
    if one.benched:
        return _benched(one)
    if best is None or one.name == best.name:
        return PoolState.IN_USE, "new streams get its drafts"
    if best.gain is None:
        return PoolState.STANDBY, f"{best.name} comes first, and is not measured yet"
    if _is_worth_trying(one, best):
        share = f"1 in {EXPLORE_STREAMS} new streams tries it"
        return PoolState.STANDBY, f"it may be better than {best.name}: at most {share}"
    return PoolState.STANDBY, f"{best.name} gains more"


def _benched(one: Candidate) -> tuple[PoolState, str]:
    if one.probing:
        return PoolState.PROBING, "streams gave it up; one tries it again"
    when = f"after {one.tokens_to_probe} more tokens" if one.tokens_to_probe else "soon"
    return PoolState.BENCHED, f"streams gave it up, as it did not pay; one tries it again {when}"
