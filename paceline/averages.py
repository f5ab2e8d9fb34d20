"""What took long, told from what stood still: a machine or a process that was suspended. Pure."""

STALL = 10.0
"""A time so many times as long as usual is no measure of what things take."""
LEAST_SECONDS = 0.25
"""Shorter ones scatter like that by themselves."""


class Stalls:
    """Judges times, one after the other. Two long ones in a row are what things take by now."""

    def __init__(self, *, expects: bool = False) -> None:
        """Begin with none. expects: the next time is believed however long it is."""
        self._last_was_one = expects

    def is_one(self, seconds: float, usual: float | None, least: float = LEAST_SECONDS) -> bool:
        """Whether it had better be forgotten; usual: None while that is not known."""
        long = usual is not None and seconds > max(STALL * usual, least)
        self._last_was_one = long and not self._last_was_one
        return self._last_was_one
