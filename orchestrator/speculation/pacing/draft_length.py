"""How many draft tokens the streams wait for that share the target's steps: one length. Pure.

It is the same for all of them, so that they ask together: who asks before the others waits for
them, and who asks after them waits for a whole step.
"""

from collections.abc import Iterator

from paceline.values import value

LATE = 1.3
"""Draft tokens that take so many times as long as expected are not waited for."""
NEARLY = 0.95
"""A length is preferred to longer ones that are hardly faster: they suffer more from all delays."""
LEAST_SHARED_SPEEDUP = 1.1
"""What a length must bring over ordinary decode steps: the formula leaves out what asking takes."""


@value(frozen=True, slots=True)
class SharedCosts:
    """What the steps of streams take that share them, in seconds.

    decode_step: an ordinary one. token: one more draft token of each stream to verify. first: until
    a draft's first token; following: until each token behind it.
    """

    decode_step: float
    token: float
    first: float
    following: float

    def wait(self, length: int) -> float:
        """Until so many draft tokens are there."""
        return self.first + (length - 1) * self.following if length else 0.0

    def round(self, length: int) -> float:
        """Of a round with so many draft tokens: the wait for them, and the step."""
        return self.decode_step + self.wait(length) + length * self.token


def expected_tokens(acceptance: float, at_most: int) -> Iterator[tuple[int, float]]:
    """Draft lengths from 1 on, and the tokens that a round of each is expected to commit."""
    right = tokens = 1.0
    for length in range(1, at_most + 1):
        right *= acceptance
        tokens += right
        yield length, tokens


def _speeds(acceptance: float, costs: SharedCosts, at_most: int) -> Iterator[float]:
    """Tokens a second of a stream, where all wait for a draft length of 1, 2 and so on."""
    for length, tokens in expected_tokens(acceptance, at_most):
        yield tokens / costs.round(length)


def together_speed(acceptance: float, costs: SharedCosts, at_most: int) -> float:
    """Tokens a second of a stream, where all wait for the draft length that is best for them."""
    return max(1.0 / costs.decode_step, *_speeds(acceptance, costs, at_most))


def meanwhile_speed(acceptance: float, costs: SharedCosts, length: int) -> float:
    """The same where the target decodes on, and so many draft tokens come within a step.

    The first of them stands where that step decides. Where it is right the next step verifies the
    others, and again, while all are right, as many that were drafted meanwhile; else the next step
    is an ordinary one, too.
    """
    if not acceptance or length < 1:
        return 1.0 / costs.decode_step
    all_right = min(acceptance**length, 0.99)
    verifies, ordinary = 1.0 / (1.0 - all_right), 1.0 / acceptance
    each = 1.0 + sum(acceptance**position for position in range(1, length + 1))
    seconds = (verifies + ordinary) * costs.decode_step + verifies * length * costs.token
    return (ordinary + verifies * each) / seconds


def best_length(
    acceptance: float, costs: SharedCosts, at_most: int, held: int | None = None
) -> int:
    """The draft length at which streams that take turns with their drafts are fastest.

    acceptance: of each draft token. held: the length so far, which stays while it is nearly the
    best. 0 when none brings enough. Leviathan et al. 2023, arXiv 2211.17192, theorem 3.8, with
    what waiting and verification cost.
    """
    none = LEAST_SHARED_SPEEDUP / costs.decode_step
    speeds = [none, *_speeds(acceptance, costs, at_most)]
    least = NEARLY * max(speeds)
    if held is not None and held < len(speeds) and speeds[held] >= least:
        return held
    return next(length for length, speed in enumerate(speeds) if speed >= least)
