"""What a candidate would bring that an orchestrator shadows: predicted, compared, advised. Pure."""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from paceline.protocol.hashing import mix
from paceline.protocol.proposal import DraftToken
from paceline.protocol.status import DraftPoolStatus, Interval, PoolState, Shadow, Speedup, Status
from paceline_tools.evaluation.recommendation import PAYS, Recommendation, Use
from paceline_tools.simulation.run import simulate_policy
from paceline_tools.simulation.world import World

SEEDS = (1, 2, 3)
TOKENS = 600
RUNS = 3 * len(SEEDS)
"""Simulations for a candidate."""
_DRAFTED = 5


@dataclass(frozen=True)
class ShadowedWorld(World):
    """A world whose draft has a draft token at this share of positions."""

    draft_rate: float = 1.0

    def draft_token(self, position: int) -> DraftToken | None:
        """See World."""
        if mix(mix(mix(0, self.seed), position), _DRAFTED) / 2**64 >= self.draft_rate:
            return None
        return super().draft_token(position)


@dataclass(frozen=True, slots=True)
class Candidate:
    """A candidate, what it would bring, and what to do. predicted: None where that is not known."""

    shadow: Shadow
    predicted: Interval | None
    recommendation: Recommendation

    def as_json(self) -> dict[str, Any]:
        """All figures."""
        return {
            **asdict(self.shadow),
            "predicted": asdict(self.predicted) if self.predicted else None,
            "recommendation": self.recommendation.choice.value,
            "words": self.recommendation.words,
        }


def judged(status: Status, advance: Callable[[], None] = lambda: None) -> list[Candidate]:
    """Each candidate of an orchestrator; `advance` is told of each of RUNS simulations."""
    in_use = next((one for one in status.draft_pools if one.state is PoolState.IN_USE), None)
    found = []
    for shadow in status.shadows:
        speedup = predicted(shadow, advance)
        found.append(Candidate(shadow, speedup, _recommend(shadow, speedup, in_use)))
    return found


def predicted(shadow: Shadow, advance: Callable[[], None] = lambda: None) -> Interval | None:
    """Speed-up over the target alone of one stream, as the pacer decides, with an interval.

    The interval is what the two ends of that of the acceptance rate come to, by all seeds.
    """
    times, acceptance = shadow.times, shadow.acceptance
    if acceptance is None or times.target_step_seconds is None or times.restart_seconds is None:
        return None
    ends = acceptance.low, acceptance.value, acceptance.high
    low, value, high = (_speedups(shadow, rate, advance) for rate in ends)
    mean = sum(value) / len(value)
    return Interval(mean, min(*low, *value, mean), max(*value, *high, mean))


def _speedups(shadow: Shadow, acceptance: float, advance: Callable[[], None]) -> list[float]:
    found = []
    for seed in SEEDS:
        world = _world(shadow, acceptance, seed)
        found.append(simulate_policy(world, None, TOKENS).tokens_per_second * world.step_seconds)
        advance()
    return found


def _world(shadow: Shadow, acceptance: float, seed: int) -> World:
    """A target step is all that a token takes, the network to the target included."""
    times = shadow.times
    restart = times.restart_seconds or 0.0
    step = restart if times.token_seconds is None else min(times.token_seconds, restart)
    return ShadowedWorld(
        times.target_step_seconds or 0.0,
        max(step, 1e-6),
        max(0.0, restart - step),
        lambda _: acceptance,
        token_seconds=times.verify_token_seconds or 0.0,
        target_round_trip_seconds=0.0,
        shares_cores=shadow.shares_cores,
        seed=seed,
        free=shadow.free,
        draft_rate=shadow.draft_rate,
    )


def _recommend(
    shadow: Shadow, speedup: Interval | None, in_use: DraftPoolStatus | None
) -> Recommendation:
    if shadow.hindrance and not shadow.outputs:
        return Recommendation(Use.CANNOT_TELL, f"cannot tell: {shadow.hindrance}")
    reasons = _reasons(shadow, speedup, in_use)
    if speedup is None:
        words = "cannot tell yet: no output was shadowed so far as to judge a draft token"
        return Recommendation(Use.CANNOT_TELL, words, reasons)
    what, against = _now(in_use)
    if speedup.low > max(against.high, PAYS):
        words = f"promote: predicted {_x(speedup.value)}, {what}"
        return Recommendation(Use.USE, words, reasons)
    if speedup.high < max(against.low, PAYS):
        words = f"do not promote: predicted {_x(speedup.value)}, {what}"
        return Recommendation(Use.DO_NOT_USE, words, reasons)
    words = f"cannot tell yet: predicted {_interval(speedup)}, {what}; have more outputs shadowed"
    return Recommendation(Use.CANNOT_TELL, words, reasons)


def _now(in_use: DraftPoolStatus | None) -> tuple[str, Speedup]:
    """What the candidate has to be better than, in words and as it was measured."""
    if in_use is None:
        return f"and no draft is in use; below {_x(PAYS)} none is worth it", Speedup(1.0, 1.0, 1.0)
    found = in_use.speedup
    if found is None:
        return f"and {in_use.name} is in use, not measured yet", Speedup(1.0, 1.0, float("inf"))
    return f"and {in_use.name}, in use, is at {_interval(found)}", found


def _reasons(
    shadow: Shadow, speedup: Interval | None, in_use: DraftPoolStatus | None
) -> tuple[str, ...]:
    counts, times, rate = shadow.counts, shadow.times, shadow.acceptance
    found = [
        f"{shadow.outputs} outputs with {shadow.tokens} tokens shadowed, drawn at "
        f"{shadow.share:.0%}; {counts.dropped} left out, {counts.failed} failed",
    ]
    if shadow.hindrance:
        found.append(f"now {shadow.hindrance}")
    if rate is not None:
        found.append(
            f"{_interval(rate, '')} of its draft tokens are the target's token; it has one at "
            f"{shadow.draft_rate:.0%} of the positions it is asked for"
        )
    if times.restart_seconds is not None and times.target_step_seconds is not None:
        more = "" if times.token_seconds is None else f", each more {_ms(times.token_seconds)}"
        shared = ", on the target's cores" if shadow.shares_cores else ""
        found.append(
            f"its first draft token takes {_ms(times.restart_seconds)}{more}{shared}; a step of "
            f"the target {_ms(times.target_step_seconds)}"
        )
    if speedup is not None:
        found.append(f"predicted for a stream that is alone: {_interval(speedup)}")
    if in_use is not None and in_use.acceptance_rate is not None:
        found.append(
            f"{in_use.name}: {in_use.acceptance_rate:.2f} of its verified draft tokens are "
            "accepted, those behind a wrong one included"
        )
    return tuple(found)


def _x(value: float) -> str:
    return f"{value:.2f}x"


def _interval(found: Interval | Speedup, unit: str = "x") -> str:
    return f"{found.value:.2f}{unit} (95 % {found.low:.2f}-{found.high:.2f})"


def _ms(seconds: float) -> str:
    return f"{seconds * 1e3:.1f} ms"


def outcome(found: Sequence[Candidate]) -> Use:
    """What a script does with all candidates: promote one, none, or wait."""
    choices = {one.recommendation.choice for one in found}
    if Use.USE in choices:
        return Use.USE
    return Use.CANNOT_TELL if Use.CANNOT_TELL in choices or not found else Use.DO_NOT_USE
