"""What a draft is told: tokens committed, and how far it may run ahead."""

from paceline.values import value


@value(frozen=True, slots=True)
class Advance:
    """Tokens committed from `position` on, and how far beyond them the draft may run.

    ngram_lookahead: the same for draft tokens found by prompt lookup, which cost next to nothing.
    due_seconds: when draft tokens are wanted; until the next of these times they may be held back.
    awaited: draft tokens that are waited for; so many are sent at once. branches: how many the
    draft may work on at a time, beside its draft tokens.
    """

    position: int
    token_ids: tuple[int, ...]
    lookahead: int
    ngram_lookahead: int = 0
    due_seconds: tuple[float, ...] = ()
    awaited: int = 0
    branches: int = 0
