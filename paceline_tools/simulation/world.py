"""A world to simulate: what things take, what is drafted, and what is true. Pure."""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

from paceline.protocol.hashing import mix
from paceline.protocol.proposal import Drafter, DraftToken

WRONG, _WRONG_TOO = 100, 101
VOCABULARY_SIZE = 128


@dataclass(frozen=True, slots=True)
class PromptCosts:
    """A prompt of so many tokens, and the seconds in which target and draft read it."""

    tokens: int = 1
    target_seconds: float = 0.0
    draft_seconds: float = 0.0


@dataclass(frozen=True)
class World:
    """Times in seconds. acceptance: how likely the draft token for a position is right.

    step_seconds: a target step with one row; token_seconds: each further row. draft_seconds: a
    draft step with one row; draft_token_seconds: each further row. round_trip_seconds: to the
    draft; the target's is target_round_trip_seconds. handling_seconds: the orchestrator's own
    time for each verdict; it has one thread.
    auc: how well margins tell right draft tokens from wrong ones. second_acceptance: how likely the
    draft's second best token is right where its draft token is not; measured on the real pair.
    branches: whether the target verifies them beside draft tokens.
    shares_cores: draft and target share their cores. free: the draft only looks up, in no time.
    """

    step_seconds: float
    draft_seconds: float
    round_trip_seconds: float
    acceptance: Callable[[int], float]
    token_seconds: float = 0.0
    draft_token_seconds: float = 0.0
    target_round_trip_seconds: float = 0.0005
    handling_seconds: float = 0.0
    auc: float = 0.91
    second_acceptance: float = 0.47
    branches: bool = False
    shares_cores: bool = False
    seed: int = 0
    free: bool = False
    prompt: PromptCosts = PromptCosts()

    def draft_token(self, position: int) -> DraftToken | None:
        """What the draft drafts for `position`; None where it has nothing."""
        state = mix(mix(mix(0, self.seed), position), 1)
        right = _uniform(state) < self.acceptance(position)
        mean = 4.0 * (self.auc if right else 1.0 - self.auc)
        margin = -math.log(1.0 - _uniform(mix(state, 2))) * mean
        token = truth(position) if right else WRONG
        return DraftToken(token, margin, Drafter.MODEL, self.second(position, right=right))

    def second(self, position: int, *, right: bool) -> int:
        """The draft's second best token there; right: whether its best is."""
        if right:
            return WRONG
        state = mix(mix(mix(0, self.seed), position), 3)
        return truth(position) if _uniform(state) < self.second_acceptance else _WRONG_TOO

    def verify_seconds(self, draft_tokens: int) -> float:
        """Of a target step that verifies so many draft tokens."""
        return self.step_seconds + self.token_seconds * draft_tokens

    def of_stream(self, index: int) -> "World":
        """The same for one of several streams: each has draft tokens of its own."""
        return self if not index else replace(self, seed=mix(self.seed, index))


def truth(position: int) -> int:
    """The target's token."""
    return position % 97


def _uniform(state: int) -> float:
    return state / 2**64
