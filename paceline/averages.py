"""Averages that forget: exponentially decayed sums, and times in which nothing stalled. Pure."""

STALL = 10.0
"""A time so many times as long as usual is no measure of what things take."""
LEAST_SECONDS = 0.25
"""Shorter ones scatter like that by themselves."""
TIMES = 12
"""So many of the latest times count in their mean."""


class DecayedSums:
    """Sums of values that are observed together; with each addition the earlier ones weigh less."""

    def __init__(self, count: int, decay: float) -> None:
        """Begin with `count` sums of 0. decay: what an addition leaves of the weight of others."""
        self._decay = decay
        self.values = [0.0] * count

    def add(self, *values: float) -> None:
        """One more of each."""
        decay = self._decay
        pairs = zip(self.values, values, strict=True)
        self.values = [decay * total + value for total, value in pairs]

    def scale(self, factor: float) -> None:
        """Let what was added so far weigh so many times as much."""
        self.values = [total * factor for total in self.values]


class Rate:
    """A ratio of two decayed sums, such as tokens per second; the latest `memory` or so count."""

    def __init__(self, memory: float, amount: float = 0.0, per: float = 0.0) -> None:
        """Begin with these sums."""
        self._decay = 1.0 - 1.0 / memory
        self._amount, self._per = amount, per

    def observe(self, amount: float, per: float = 1.0) -> None:
        """Add to both."""
        self._amount = self._decay * self._amount + amount
        self._per = self._decay * self._per + per

    @property
    def weight(self) -> float:
        """What it is per: so much of it counts."""
        return self._per

    @property
    def value(self) -> float | None:
        """The ratio; None while nothing was observed."""
        return self._amount / self._per if self._per > 0 else None


class Share(Rate):
    """A share of successes among events, which are observed as True or False."""

    def __init__(self, prior: float, prior_weight: float, memory: float) -> None:
        """Begin as if `prior` had been seen in so many events."""
        super().__init__(memory, prior * prior_weight, prior_weight)

    def doubt(self, weight: float) -> None:
        """Let what was seen so far weigh as little as `weight` events."""
        self._amount, self._per = self.value * weight, weight

    @property
    def value(self) -> float:
        """The share."""
        return self._amount / self._per


class Stalls:
    """Tells times apart in which a machine or a process was suspended.

    Two long ones, one behind the other, are no stalls: that is what things take by now.
    """

    def __init__(self, *, expects: bool = False) -> None:
        """Begin with none. expects: the next time is believed however long it is."""
        self._last_was_one = expects

    def is_one(self, seconds: float, usual: float | None, least: float = LEAST_SECONDS) -> bool:
        """Whether the time is one of a stall; usual: None while that is not known."""
        long = usual is not None and seconds > max(STALL * usual, least)
        self._last_was_one = long and not self._last_was_one
        return self._last_was_one


class Mean:
    """A mean of the latest dozen or so times, without stalls."""

    def __init__(self, times: int = TIMES) -> None:
        """Begin with nothing. times: how many count."""
        self.value: float | None = None
        self._times = times
        self._seen = 0
        self._stalls = Stalls()

    def observe(self, value: float, least_stall: float = LEAST_SECONDS) -> bool:
        """One more; returns whether it counts. least_stall: see Stalls."""
        if self._stalls.is_one(value, self.value, least_stall):
            return False
        self._seen += 1
        before = value if self.value is None else self.value
        self.value = before + (value - before) / min(self._seen, self._times)
        return True

    def doubt(self) -> None:
        """The next one counts alone."""
        self._seen = 0
        self._stalls = Stalls(expects=True)
