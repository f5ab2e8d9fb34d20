"""Pacing: how many draft tokens to verify, and how long to wait for them. Pure."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Plan:
    """What to ask the draft for before the next step.

    Wait for at_least tokens, wait_seconds at most; take at_most. Of the target ask
    continue_steps plain steps beyond the next one.
    """

    at_least: int
    at_most: int
    wait_seconds: float
    continue_steps: int


TARGET_ONLY_STEPS = 16
"""Plain steps asked for at once, so that the target alone pays no round trip per token."""


@dataclass(frozen=True, slots=True)
class FixedPacer:
    """The same draft length in every round.

    draft_length: 0 is the target alone. wait_seconds: bound of the wait for the draft.
    """

    draft_length: int
    wait_seconds: float

    def plan(self, remaining: int, waiting_pays: bool) -> Plan:
        """Plan the next step of a stream that has `remaining` tokens to go.

        waiting_pays: the draft is there and kept its last time. The target adds a token of
        its own to each round, so the last token is never drafted.
        """
        length = max(0, min(self.draft_length, remaining - 1))
        if length and waiting_pays:
            return Plan(length, length, self.wait_seconds, 0)
        return Plan(0, length, 0.0, min(TARGET_ONLY_STEPS, remaining) - 1)
