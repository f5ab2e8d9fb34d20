"""How fast rounds are that speculate, of all streams together, by load. Pure.

Streams that share the target's steps share what speculation costs, too: processors, the draft's
steps, the orchestrator. Together they know after a few rounds what each would know after many.
"""

from orchestrator.speculation.estimates.batch_load import load_bucket
from paceline.averages import Rate

_MEMORY_ALONE, _MEMORY_BESIDE = 400.0, 200.0
"""Latest rounds that count, of all streams: at least one of each, where they share steps."""
MANY, LEAST_ROUNDS_OF_EACH = 64, 3
"""So many streams know their speed after so few rounds of each. Fewer learn it no sooner together
than one by itself."""
VALID_ROUNDS = 256
"""Rounds of each stream there is, after which it is measured anew."""


class SpeculatingSpeed:
    """Tokens per second of one stream's rounds, at each load. rounds: of all streams so far."""

    def __init__(self) -> None:
        """Nothing was measured."""
        self._rates: dict[int, Rate] = {}
        self._begun: dict[int, int] = {}
        self._seen: dict[int, int] = {}

    def observe(self, tokens: int, seconds: float, others: int, rounds: int) -> None:
        """A round that was planned to speculate, of a stream beside so many others."""
        load = load_bucket(others)
        if load not in self._rates or (others and self._has_expired(others, rounds)):
            memory = max(_MEMORY_BESIDE, 1.0 + others) if others else _MEMORY_ALONE
            self._rates[load], self._begun[load], self._seen[load] = Rate(memory), rounds, 0
        self._rates[load].observe(tokens, seconds)
        self._seen[load] += 1

    @property
    def alone(self) -> float | None:
        """Of streams that were alone; None while not known."""
        rate = self._rates.get(0)
        return None if rate is None else rate.value

    def beside(self, others: int, rounds: int) -> float | None:
        """Of MANY streams, each beside so many others; None while not known, or no longer."""
        load, least = load_bucket(others), LEAST_ROUNDS_OF_EACH * (1 + others)
        if 1 + others < MANY or self._seen.get(load, 0) < least:
            return None
        return None if self._has_expired(others, rounds) else self._rates[load].value

    def _has_expired(self, others: int, rounds: int) -> bool:
        return rounds - self._begun[load_bucket(others)] >= VALID_ROUNDS * (1 + others)
