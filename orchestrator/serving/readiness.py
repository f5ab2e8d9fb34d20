"""Whether an orchestrator can serve: Kubernetes sends it calls only while it says so. Pure.

A rollout with a wrong name of a target must not go green, so nothing is ready that never had a
target. An outage of the only target must not take all orchestrators out of their Service either:
running streams wait for the target, and clients that ask meanwhile learn why they are refused.
"""

from collections.abc import Sequence

from paceline.protocol.status import LOADING

GONE_SECONDS = 60.0
"""An orchestrator whose targets have all been gone for so long is not ready any more: twice as
long as a running stream waits for one, so that no stream runs there then."""

MOST_REASONS = 4
_LOADS = f": it is {LOADING}"
"""What keeps a target that will be usable by itself."""


class Readiness:
    """Ready from the first usable target on, until none has been there for GONE_SECONDS."""

    def __init__(self) -> None:
        """Not ready."""
        self._seen: float | None = None

    def hindrance(self, *, usable: bool, why: Sequence[str], now: float) -> str:
        """Why it is not ready; empty while it is.

        usable: whether a target is. why: what keeps each from being so. now: seconds.
        """
        if usable:
            self._seen = now
        if self._seen is not None and now - self._seen < GONE_SECONDS:
            return ""
        reasons = "; ".join(why[:MOST_REASONS]) or "none is known"
        if why and all(_LOADS in one for one in why):
            return f"waiting for {reasons}"
        since = "" if self._seen is None else f" for {GONE_SECONDS:g} s now"
        return f"no target can be used{since}: {reasons}"
