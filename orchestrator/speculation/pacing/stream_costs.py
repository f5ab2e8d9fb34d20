"""What a stream's time, waits and draft tokens are worth: by this it is decided what pays. Pure."""

import math

from orchestrator.speculation.estimates.acceptance import StreamAcceptance
from orchestrator.speculation.estimates.batch_load import BatchLoad
from orchestrator.speculation.estimates.measurements import DraftMeasurements
from orchestrator.speculation.estimates.speculating_speed import is_crowd
from orchestrator.speculation.estimates.stream_speed import StreamSpeed
from orchestrator.speculation.pacing.cost_objective import CostObjective
from orchestrator.speculation.pacing.draft_length import SharedCosts, best_length
from orchestrator.speculation.pacing.plan import Worth
from paceline.protocol.session import CostModel

CATCH_UP = 1.25
"""What a second of waiting costs, in seconds, where the draft works while the target does: an
ordinary decode step is no loss to it."""
LEAST_CHANCE = 0.1
"""A draft whose draft tokens are accepted less often only costs its owner."""
LEAST_SPEEDUP, LEAST_SPEEDUP_BESIDE_OTHERS = 0.96, 0.88
"""A stream that measures less pauses; less than 1, as measurements scatter. Beside others more is
left to the length they all wait for, which is chosen by what is known of all."""
SCATTER = 0.05
"""Beside others a stream pauses by itself where it would not pay if this were added to its
acceptance rate, which scatters: the others go on, and get every second step once one has paused."""
UNKNOWN_SPEEDUP = 1.3
"""What speculation brings, before it was measured."""
UNKNOWN_OPENING_TOKENS = 16
"""Tokens to go that make it worth finding out what the draft's prompt costs."""


class StreamCosts:
    """SharedCosts of one stream, in tokens or in seconds, by what was measured so far."""

    def __init__(
        self,
        measurements: DraftMeasurements,
        acceptance: StreamAcceptance,
        load: BatchLoad,
        speed: StreamSpeed,
        objective: CostObjective | None,
        max_branch_tokens: int,
    ) -> None:
        """measurements: what all streams know. The others are of the stream.

        objective: None: time. max_branch_tokens: of a round.
        """
        self._measurements = measurements
        self._acceptance = acceptance
        self._load = load
        self._speed = speed
        self._objective = objective
        self._max_branch_tokens = max_branch_tokens
        self.token_seconds = 0.0
        """What the verification of a draft token takes; 0 while not known."""
        self.branch_seconds = math.inf
        """What a branch takes beside its tokens; there is none while that is not known."""

    def observe_target(self, cost: CostModel | None) -> None:
        """What its steps cost by now; None where it does not know."""
        self.token_seconds = cost.token_seconds if cost is not None else 0.0
        self.branch_seconds = cost.branch_seconds if cost is not None else math.inf

    @property
    def throughput(self) -> float:
        """Tokens per second of all streams that share the target's steps."""
        others = self._load.others
        return self._speed.throughput(others) * (1 + others)

    @property
    def worth(self) -> Worth:
        """Of draft tokens. Their verification takes time of all streams that share the step."""
        throughput = self.throughput
        return Worth(
            self._acceptance,
            throughput * self.token_seconds,
            throughput * self.branch_seconds,
            self._max_branch_tokens,
        )

    def wait_second(self, *, shares_cores: bool) -> float:
        """A second of waiting for the draft, in tokens."""
        return self._speed.throughput(self._load.others) * (1.0 if shares_cores else CATCH_UP)

    @property
    def decode_step_seconds(self) -> float | None:
        """An ordinary decode step at this load; None while not known."""
        return self._measurements.decode_step_seconds(self._load.others)

    @property
    def shared(self) -> SharedCosts:
        """Of steps that are shared with others."""
        return SharedCosts(
            decode_step=self.decode_step_seconds or math.inf,
            token=self.token_seconds * (1 + self._load.others),
            first=self._measurements.wait(restart=True) or 0.0,
            following=self._measurements.wait(restart=False) or 0.0,
        )

    @property
    def speedup(self) -> float | None:
        """What speculation brings to this stream; None while not known."""
        return self._speed.speedup(self._load.others)

    @property
    def is_slow(self) -> bool:
        """Whether speculation is slower than the target alone, as far as it is known."""
        least = LEAST_SPEEDUP_BESIDE_OTHERS if self._load.others else LEAST_SPEEDUP
        return (self.speedup is not None and self.speedup < least) or self.all_are_slow

    @property
    def all_are_slow(self) -> bool:
        """Whether it is so for all streams together that share the steps."""
        together = self._measurements.shared_speedup(self._load.others)
        return together is not None and together < LEAST_SPEEDUP

    @property
    def all_are_known_to_lose(self) -> bool:
        """Whether it is so as measured, or, where that is not known, for a crowd of late."""
        if self._measurements.shared_speedup(self._load.others) is not None:
            return self.all_are_slow
        return is_crowd(self._load.others) and self._measurements.crowds_lose

    def crowd_loses(self, at_most: int) -> bool:
        """Whether it is one of many streams for which, all together, no draft token is worth it."""
        if not is_crowd(self._load.others) or self.decode_step_seconds is None:
            return False
        acceptance = self._measurements.calibration.mean.value
        return self.all_are_slow or not best_length(acceptance, self.shared, at_most)

    def cheapest_length(self, at_most: int) -> int | None:
        """Draft tokens of a round by the objective of cost; None: as fast as can be.

        So it is where the objective is time, where no length keeps the bound, and until it is known
        what a draft token takes. Streams that share steps come to the same length.
        """
        if not self._load.others:
            return self._cheapest(self._acceptance.next_chance, at_most)
        measured = self._measurements
        return self._cheapest(measured.calibration.mean.value, at_most, measured.shared_length)

    def _cheapest(self, chance: float, at_most: int, held: int | None = None) -> int | None:
        if self._objective is None:
            return None
        if None in {self._measurements.wait(restart=restart) for restart in (False, True)}:
            return None
        return self._objective.length(chance, self.shared, at_most, held)

    def is_worth_asking(self, at_most: int, *, shares_cores: bool) -> bool:
        """Whether a first draft token is worth its cost, by the throughput without speculation.

        That is what a pause would go back to. The wait for it costs only where draft and target
        take turns.
        """
        chance = self._acceptance.next_chance
        if self._load.others:
            # A stream that is more often right than all together is not yet better.
            own = self._acceptance.long_mean.value + SCATTER
            chance = min(own, self._measurements.calibration.mean.value)
        if (cheapest := self._cheapest(chance, at_most)) is not None:
            return cheapest > 0 and chance > LEAST_CHANCE
        if self._load.others and not shares_cores:
            return best_length(chance, self.shared, at_most) > 0
        wait = (self._measurements.wait(restart=True) or 0.0) if shares_cores else 0.0
        step = self.decode_step_seconds
        throughput = (1 + self._load.others) / step if step else self.throughput
        cost = throughput * (wait + self.token_seconds)
        return self._acceptance.next_chance > max(cost, LEAST_CHANCE)

    def is_worth_opening(self, remaining: int, seconds: float | None) -> bool:
        """Whether what remains saves more than the draft takes to read its prompt."""
        if seconds is None:
            return remaining >= UNKNOWN_OPENING_TOKENS
        measured = self._measurements.speculating_speedup or 0.0
        # One that brought nothing so far is given up by the rounds, not here: it is tried again.
        speedup = measured if measured > 1.0 / LEAST_SPEEDUP else UNKNOWN_SPEEDUP
        step = self._measurements.decode_step_seconds(0) or 0.0
        return remaining * step * (1.0 - 1.0 / speedup) > seconds
