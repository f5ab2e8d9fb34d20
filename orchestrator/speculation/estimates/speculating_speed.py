"""How fast rounds are that speculate, of all streams together, by load. Pure.

Streams that share the target's steps share what speculation costs, too: processors, the draft's
steps, the orchestrator. Together they know after a few rounds what each would know after many.
"""

from dataclasses import dataclass, field

from orchestrator.speculation.estimates.batch_load import load_bucket
from paceline.averages import Rate, Share

_MEMORY_ALONE, _MEMORY_BESIDE = 400.0, 200.0
"""Latest rounds that count, of all streams: at least one of each, where they share steps."""
LEAST_ROUNDS, LEAST_ROUNDS_OF_EACH = 192, 3
"""Streams know their speed after so many rounds together, and so many of each."""
MANY = 64
"""So many streams are a crowd: what it costs all to find out is more than one may gain by it."""
MOST_MISSES, _MISSES_WEIGHT, _MISSES_MEMORY = 0.25, 32.0, 128.0
"""Share of rounds that miss a step, above which streams are not in step; and rounds of all."""
VALID_ROUNDS = 256
"""Rounds of each stream there is, after which it is measured anew."""
CROWD_ROUNDS = 512
"""Likewise, after which a crowd that lost finds out again whether it pays, at a cost to all."""


def is_crowd(others: int) -> bool:
    """Whether a stream beside so many others is one of MANY."""
    return 1 + others >= MANY


@dataclass(slots=True)
class _AtLoad:
    """What was seen at one load, since `begun` rounds of all streams."""

    rate: Rate
    begun: int
    seen: int = 0
    misses: Share = field(default_factory=lambda: Share(0.0, _MISSES_WEIGHT, _MISSES_MEMORY))

    def has_expired(self, others: int, rounds: int) -> bool:
        return rounds - self.begun >= VALID_ROUNDS * (1 + others)


class SpeculatingSpeed:
    """Tokens per second of one stream's rounds, at each load. rounds: of all streams so far."""

    def __init__(self) -> None:
        """Nothing was measured."""
        self._loads: dict[int, _AtLoad] = {}
        self._crowds_lose_until = 0

    def observe(self, tokens: int, seconds: float, others: int, rounds: int) -> None:
        """A round that was planned to speculate, of a stream beside so many others."""
        load = load_bucket(others)
        known = self._loads.get(load)
        if known is None or (others and known.has_expired(others, rounds)):
            memory = max(_MEMORY_BESIDE, 1.0 + others) if others else _MEMORY_ALONE
            known = self._loads[load] = _AtLoad(Rate(memory), rounds)
        known.rate.observe(tokens, seconds)
        known.seen += 1

    def observe_answer(self, *, missed: bool, others: int) -> None:
        """A round came that waited for draft tokens. missed: others had a step before it."""
        if (known := self._loads.get(load_bucket(others))) is not None:
            known.misses.observe(missed)

    def is_in_step(self, others: int, rounds: int) -> bool:
        """Whether streams that wait for draft tokens together mostly get the very next step."""
        known = self._loads.get(load_bucket(others))
        if known is None or known.has_expired(others, rounds):
            return True
        return known.misses.value <= MOST_MISSES

    def observe_crowd_that_loses(self, others: int, rounds: int) -> None:
        """One of MANY streams gave speculation up, as it does not pay for all together."""
        self._crowds_lose_until = rounds + CROWD_ROUNDS * (1 + others)

    def crowds_lose(self, rounds: int) -> bool:
        """Whether that was of late."""
        return rounds < self._crowds_lose_until

    @property
    def alone(self) -> float | None:
        """Of streams that were alone; None while not known."""
        known = self._loads.get(0)
        return None if known is None else known.rate.value

    def beside(self, others: int, rounds: int) -> float | None:
        """Of streams, each beside so many others; None while not known, no longer, or alone."""
        known = self._loads.get(load_bucket(others))
        least = max(LEAST_ROUNDS, LEAST_ROUNDS_OF_EACH * (1 + others))
        if known is None or not others or known.seen < least:
            return None
        return None if known.has_expired(others, rounds) else known.rate.value
