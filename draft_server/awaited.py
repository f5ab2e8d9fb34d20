"""Draft tokens that somebody waits for: they go at once, without those after them. Pure."""


class AwaitedTokens:
    """The end of what is waited for, and the end of what was delivered.

    The worker sets both; the event loop asks.
    """

    def __init__(self, committed: int) -> None:
        """Begin without draft tokens behind so many committed ones."""
        self._until: tuple[int] | None = None  # a new one for each Advance that names some
        self._released: tuple[int] | None = None  # the last one of which take() said so
        self._delivered = committed

    def commit(self, stayed: int, committed: int, awaited: int) -> None:
        """Take an Advance that awaits so many. stayed: the length of what it left as it was."""
        self._delivered = max(min(self._delivered, stayed), committed)
        self._until = (committed + awaited,) if awaited else None

    def deliver(self, end: int) -> None:
        """Those before position `end` were delivered."""
        self._delivered = end

    def take(self) -> bool:
        """Whether all that are waited for were delivered; only once for each Advance.

        On the event loop, while the worker may take the next Advance, which must not get lost, or
        has made the last of them and not delivered it, which must not be left behind.
        """
        until = self._until
        if until is None or until is self._released or self._delivered < until[0]:
            return False
        self._released = until
        return True
