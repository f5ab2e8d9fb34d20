"""Which pool of drafts a stream gets, and when it moves to another. Pure.

New streams get the preferred pool at first, then the one with the highest estimated speed-up. A few
explore others that could be better, so that a pool that became better is found. A stream leaves a
pool that it did not speculate with, or whose upper bound is below the estimate of the best pool.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from paceline.protocol.status import PoolState, Speedup

EXPLORE_STREAMS = 20
"""At most one in so many streams explores a pool that is not the best, benched ones included.

A benched pool whose drafts were replaced by better ones is found by the first stream after
measurements.BENCH_PROBE_TOKENS tokens where no other pool can be used. Elsewhere it is found by one
of the next EXPLORE_STREAMS streams after so many tokens, times the pools that wait to be tried.
"""
UNKNOWN_SPEEDUP = 1.0
"""Estimate of a pool that was not measured yet, beside pools that were."""
MOVE_TOKENS = 128
"""Tokens that a stream makes with a pool before it moves to another one: twice as many after each
move, which bounds the number of moves. It is idle after so many without speculation. With fewer to
go it stays."""
HOPED_SPEEDUP = 1.3
"""Estimate of a pool that was not measured yet, for a stream that is idle with its own."""


@dataclass(frozen=True, slots=True)
class PoolCandidate:
    """A pool that could draft. tokens_to_probe: until it may be tried, where it is benched.

    token_seconds: what its drafts take to read a token of a prompt; None while not known.
    """

    name: str
    speedup: Speedup | None = None
    benched: bool = False
    probing: bool = False
    tokens_to_probe: int = 0
    token_seconds: float | None = None


@dataclass(frozen=True, slots=True)
class Holding:
    """What a stream came to with the pool that it has.

    moves: how often it changed pools. tokens: made since it has this one. idle_tokens: of these,
    since it last speculated, other than to probe. probes: it tries a pool that is benched.
    decode_step_seconds: of an ordinary decode step; None while not known. remaining: tokens to go.
    read_tokens: prompt and output, which another draft would have to read.
    """

    moves: int
    tokens: int
    idle_tokens: int
    probes: bool
    decode_step_seconds: float | None
    remaining: int
    read_tokens: int

    @property
    def idle(self) -> bool:
        """Whether it has not speculated for long."""
        return self.idle_tokens >= MOVE_TOKENS

    @property
    def may_move(self) -> bool:
        """Whether it has had its pool for long enough, and has enough tokens to go."""
        stays = MOVE_TOKENS * 2**self.moves
        return not self.probes and self.tokens >= stays and self.remaining >= MOVE_TOKENS


class PoolChoice:
    """Chooses for one stream after the other."""

    def __init__(self) -> None:
        """Begin with nothing known."""
        self._held: str | None = None
        self._given = 0
        self._explorations = 0
        self._explored: dict[str, int] = {}

    def choose(self, candidates: Sequence[PoolCandidate]) -> str | None:
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

    def best(self, candidates: Sequence[PoolCandidate]) -> PoolCandidate | None:
        """The one that most streams get.

        The incumbent is kept until a challenger's lower bound exceeds its estimate.
        """
        usable = [one for one in candidates if not one.benched]
        if not usable:
            return None
        top = max(usable, key=_expected)  # the first of equals
        held = next((one for one in usable if one.name == self._held), None)
        if held is None or held.speedup is None or _is_better(top, held):
            return top
        return held

    def move(self, name: str, holding: Holding, candidates: Sequence[PoolCandidate]) -> str | None:
        """The pool to which a stream moves that has drafts of pool `name`; None: it stays.

        For a stream that was idle its own pool counts as benched; for one that was not it does
        not, whatever other streams measured.
        """
        if not holding.may_move:
            return None
        own = [replace(one, benched=holding.idle) for one in candidates if one.name == name]
        best = self.best([*own, *(one for one in candidates if one.name != name)])
        if best is None or best.name == name:
            return None
        if not holding.idle and not any(_is_worse(one, best) for one in own):
            return None
        now = 1.0 if holding.idle else _expected(own[0])
        return best.name if _move_pays(holding, now, best) else None

    def given(self) -> None:
        """A stream has got its draft."""
        self._given += 1

    def _explore(self, worth: list[PoolCandidate]) -> PoolCandidate:
        """The one that was not tried for longest."""
        chosen = min(worth, key=lambda one: self._explored.get(one.name, 0))
        self._given = -1  # the stream that explores does not count for the next exploration
        self._explorations += 1
        self._explored[chosen.name] = self._explorations
        return chosen


def _is_absent(held: str | None, candidates: Sequence[PoolCandidate]) -> bool:
    """Whether the best one cannot be reached for now: it is not forgotten for that."""
    return held is not None and all(one.name != held for one in candidates)


def _expected(one: PoolCandidate) -> float:
    return UNKNOWN_SPEEDUP if one.speedup is None else one.speedup.value


def _is_better(one: PoolCandidate, held: PoolCandidate) -> bool:
    """Whether its lower bound exceeds the estimate of the incumbent: hysteresis.

    One that was not measured yet is better than an incumbent whose upper bound is below 1.
    """
    if one.speedup is None:
        return held.speedup is not None and held.speedup.high < UNKNOWN_SPEEDUP
    return one.speedup.low > _expected(held)


def _is_worse(one: PoolCandidate, best: PoolCandidate) -> bool:
    """Whether it was measured, and its interval is below the estimate of the best one."""
    if one.speedup is None or best.speedup is None:
        return False
    return _is_better(best, one) and one.speedup.high < best.speedup.value


def _move_pays(holding: Holding, now: float, best: PoolCandidate) -> bool:
    """Whether the remaining tokens save more than the new draft takes to read, if that is known."""
    then = HOPED_SPEEDUP if best.speedup is None else best.speedup.value
    if then <= now:
        return False
    if holding.decode_step_seconds is None or best.token_seconds is None:
        return True
    saved = holding.remaining * holding.decode_step_seconds * (1.0 / now - 1.0 / then)
    return saved > holding.read_tokens * best.token_seconds


def _is_worth_trying(one: PoolCandidate, best: PoolCandidate) -> bool:
    if one.benched:
        return not one.tokens_to_probe
    if best.speedup is None:
        return False
    return one.speedup is None or one.speedup.high > best.speedup.value


def standing(one: PoolCandidate, best: PoolCandidate | None) -> tuple[PoolState, str]:
    """How a pool stands that can be used, and why."""
    if one.benched:
        return _benched(one)
    if best is None or one.name == best.name:
        return PoolState.IN_USE, "new streams get its drafts"
    if best.speedup is None:
        return PoolState.STANDBY, f"{best.name} comes first, and is not measured yet"
    if _is_worth_trying(one, best):
        share = f"1 in {EXPLORE_STREAMS} new streams tries it"
        return PoolState.STANDBY, f"it may be better than {best.name}: at most {share}"
    return PoolState.STANDBY, f"{best.name} has a higher speed-up"


def _benched(one: PoolCandidate) -> tuple[PoolState, str]:
    if one.probing:
        return PoolState.PROBING, "streams gave it up; one tries it again"
    when = f"after {one.tokens_to_probe} more tokens" if one.tokens_to_probe else "soon"
    return PoolState.BENCHED, f"streams gave it up, as it did not pay; one tries it again {when}"
