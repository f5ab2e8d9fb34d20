"""What each caller may take: streams at once, requests and tokens a minute (token buckets)."""

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from paceline.errors import ResourceExhausted
from paceline.rpc.caller import Caller

MINUTE = 60.0
MOST_CALLERS = 10_000
"""Callers whose use is remembered; beyond them those that have nothing running are forgotten."""


@dataclass(slots=True)
class Bucket:
    """Fills evenly to `per_minute` in a minute, and may be overdrawn by what is known too late."""

    per_minute: int
    left: float
    since: float

    def fill(self, now: float) -> None:
        """Up to `now`, in seconds."""
        rate = self.per_minute / MINUTE
        self.left = min(self.per_minute, self.left + rate * (now - self.since))
        self.since = now

    def seconds_until(self, amount: float) -> float:
        """How long until `amount` is in it; 0 when it is."""
        return max(0.0, (amount - self.left) * MINUTE / self.per_minute)


@dataclass(slots=True)
class CallerUse:
    """By one caller. None: what has no limit."""

    streams: int = 0
    requests: Bucket | None = None
    tokens: Bucket | None = None

    @property
    def idle(self) -> bool:
        """Whether forgetting it gives nothing away."""
        buckets = (one for one in (self.requests, self.tokens) if one is not None)
        return not self.streams and all(one.left >= one.per_minute for one in buckets)


class Allowances:
    """What all callers have taken of what they may take."""

    def __init__(self, clock: Callable[[], float]) -> None:
        """clock: seconds, monotonic."""
        self._clock = clock
        self._uses: dict[str, CallerUse] = {}

    @contextlib.contextmanager
    def taking(self, caller: Caller, streams: int) -> Iterator[Callable[[int], None]]:
        """So many streams while it lasts; ResourceExhausted says when what is too much now fits.

        Gives what to call with the number of tokens that were read and made.
        """
        use = self._use(caller)
        _check(caller, use, streams)
        use.streams += streams
        if use.requests is not None:
            use.requests.left -= 1
        try:
            yield lambda tokens: _spend(use, tokens)
        finally:
            use.streams -= streams

    def _use(self, caller: Caller) -> CallerUse:
        """Of `caller`, with its limits as they are now."""
        now, limits = self._clock(), caller.limits
        if len(self._uses) >= MOST_CALLERS:
            self._uses = {name: use for name, use in self._uses.items() if not use.idle}
        use = self._uses.setdefault(caller.name, CallerUse())
        use.requests = _bucket(use.requests, limits.requests_per_minute, now)
        use.tokens = _bucket(use.tokens, limits.tokens_per_minute, now)
        return use


def _bucket(known: Bucket | None, per_minute: int | None, now: float) -> Bucket | None:
    if per_minute is None:
        return None
    if known is None or known.per_minute != per_minute:
        return Bucket(per_minute, per_minute, now)
    known.fill(now)
    return known


def _check(caller: Caller, use: CallerUse, streams: int) -> None:
    most = caller.limits.streams
    if most is not None and use.streams + streams > most:
        fits = 1.0 if streams <= most else None
        raise ResourceExhausted(
            f"{caller.name} asks for {streams} streams beside {use.streams} that run; "
            f"its limit is {most} at once",
            fits,
        )
    if use.requests is not None and (wait := use.requests.seconds_until(1.0)):
        limit = use.requests.per_minute
        raise ResourceExhausted(f"{caller.name} may ask {limit} times a minute", wait)
    if use.tokens is not None and (wait := use.tokens.seconds_until(1.0)):
        limit = use.tokens.per_minute
        raise ResourceExhausted(f"{caller.name} may have {limit} tokens a minute", wait)


def _spend(use: CallerUse, tokens: int) -> None:
    if use.tokens is not None:
        use.tokens.left -= tokens
