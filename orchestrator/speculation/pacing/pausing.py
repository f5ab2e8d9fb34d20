"""When a stream that paused speculation probes it, and when it goes on: a state machine. Pure.

Speculating -> paused, for PROBE_TOKENS -> probing, for PROBE_ROUNDS -> speculating, or paused for
twice as long.
"""

import sys
from collections.abc import Callable

from orchestrator.speculation.reason import Reason

IDLE_ROUNDS, MAX_IDLE_ROUNDS = 6, 64
"""Rounds without a draft token worth verifying, after which the stream stops asking: where none is
expected, and where some should have come."""
PROBE_ROUNDS = 2
"""Rounds of a probe."""
PROBE_TOKENS, MAX_PROBE_TOKENS = 48, 384
"""Tokens between probes: at first, and after many in vain."""


class Pausing:
    """The state of one stream."""

    def __init__(self, *, benched: bool) -> None:
        """benched: it begins paused, as the draft is benched."""
        self._paused: Reason | None = None
        self._probe_after = PROBE_TOKENS
        self._tokens_since_probe = self._probe_rounds_left = 0
        self._idle_rounds = 0
        if benched:
            self.bench()

    @property
    def reason(self) -> Reason | None:
        """Why it does not speculate; None where it does."""
        if self._paused is None:
            return None
        is_due = self._tokens_since_probe >= self._probe_after
        return Reason.PROBING if self._probe_rounds_left or is_due else self._paused

    @property
    def tokens_to_probe(self) -> int:
        """Tokens until the next probe begins; without bound where none is to come, or it is due."""
        left = self._probe_after - self._tokens_since_probe
        return left if self._paused is not None and left > 0 else sys.maxsize

    def count(self, tokens: int) -> None:
        """Tokens of a verdict, for whatever reason its step was planned."""
        self._tokens_since_probe += tokens

    def observe_round(self, *, useful: bool) -> None:
        """A round that speculated. useful: it had a draft token worth verifying."""
        self._idle_rounds = 0 if useful else self._idle_rounds + 1

    def has_idled(self, is_worth_asking: Callable[[], bool]) -> bool:
        """Whether the stream had better stop asking for draft tokens."""
        if self._idle_rounds < IDLE_ROUNDS:
            return False
        return self._idle_rounds >= MAX_IDLE_ROUNDS or not is_worth_asking()

    def pause(self, reason: Reason) -> None:
        """Speculate no more, until a probe."""
        self._paused = reason
        self._tokens_since_probe = self._idle_rounds = 0

    def bench(self) -> None:
        """Others have given it up: speculate no more, until a probe much later."""
        self.pause(Reason.PAUSED_BENCHED)
        self._probe_after = MAX_PROBE_TOKENS

    def observe_probe(self) -> bool:
        """A round of a probe; returns whether it was the last one."""
        self._probe_rounds_left = (self._probe_rounds_left or PROBE_ROUNDS) - 1
        return not self._probe_rounds_left

    def go_on(self) -> None:
        """A probe was a success."""
        self._paused, self._probe_after = None, PROBE_TOKENS

    def probe_later(self) -> None:
        """A probe was in vain: the next one is later."""
        self._probe_after = min(2 * self._probe_after, MAX_PROBE_TOKENS)
