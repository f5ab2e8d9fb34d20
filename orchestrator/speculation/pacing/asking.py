"""Whether a stream asks a draft that only looks up before each step, or hears it by the way. Pure.

Asked before a step, lookup has its say about the very next token, and the target waits for a round
trip. Heard by the way, the target decodes on meanwhile, and what is found comes one step late: its
first token is lost. Of a text that repeats itself the first way gets the more, of others the second
costs nothing.
"""

from orchestrator.speculation.estimates.lookup import LookupMeasurements
from paceline.averages import Mean, Share
from paceline.protocol.verdict import TimedVerdict

_PRIOR_WEIGHT, _MEMORY = 6.0, 24.0
"""Rounds of one stream."""


class Asking:
    """Of one stream."""

    def __init__(self, lookup: LookupMeasurements) -> None:
        """lookup: what all streams know."""
        self._lookup = lookup
        self._found = Share(lookup.found.value, _PRIOR_WEIGHT, _MEMORY)
        self._step = Mean()
        self._asked = self._follows = True

    def decide(self) -> bool:
        """Whether to ask before the next step: a step saved now and then against a wait in each."""
        step, wait = self._step.value, self._lookup.asking.value
        pays = step is None or wait is None or self._found.value * step > wait
        self._asked = pays or self._follows
        return self._asked

    def observe(self, timed: TimedVerdict, seconds: float | None) -> None:
        """A round of lookup; seconds: since the verdict before, None where they do not count."""
        verdict = timed.verdict
        self._step.observe(verdict.step_seconds)
        for found in (self._found, self._lookup.found):
            found.observe(verdict.accepted > 0)
        self._follows = verdict.accepted > 0
        if self._asked and seconds is not None:
            self._lookup.asking.observe(max(0.0, seconds - verdict.step_seconds))
