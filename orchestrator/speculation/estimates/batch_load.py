"""With how many other streams a stream shares the target's steps. Pure."""

from paceline.protocol.verdict import Verdict

SHARED_ROUNDS = 8
"""A step shared with others counts for so many rounds: others may miss some of the steps."""


def load_bucket(others: int) -> int:
    """Numbers of other streams that count as one load: 0, 1, 2 to 3, 4 to 7, and so on."""
    return others.bit_length()


class BatchLoad:
    """The load that one stream sees."""

    def __init__(self) -> None:
        """Alone, until a verdict tells otherwise."""
        self.others = 0
        """Streams that share the target's steps."""
        self._shared_rounds = SHARED_ROUNDS

    def observe(self, verdict: Verdict) -> bool:
        """A verdict came; returns whether the load is in another bucket now."""
        if verdict.load.batched_tokens > verdict.verified + verdict.branch_verified + 1:
            self._shared_rounds = SHARED_ROUNDS
        self._shared_rounds -= self._shared_rounds > 0
        before = self.others
        self.others = max(0, verdict.load.sessions - 1) if self._shared_rounds else 0
        return load_bucket(self.others) != load_bucket(before)
