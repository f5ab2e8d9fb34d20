"""How likely a draft token is accepted: learned from verdicts, by confidence. Pure."""

import math
from bisect import bisect
from collections.abc import Sequence
from dataclasses import dataclass, field

from paceline.averages import Share
from paceline.protocol.proposal import Drafter, DraftToken
from paceline.protocol.verdict import Verdict

_BOUNDS = (0.25, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0, 8.0, 12.0, 16.0)
"""Of the bins of confidence."""
_PRIOR_WEIGHT, _MEMORY = 4.0, 400.0
"""Draft tokens of all streams, in each bin."""
_OPTIMISTIC, _OPTIMISM = 0.85, 4.0
"""A draft's acceptance rate before it was tried, so that it is; and the weight of that prior."""
_SECOND_BEST, _SECOND_WEIGHT = 0.47, 8.0
"""How often the second-best token is the target's where the draft token is not, as measured on the
real pair (docs/decisions/branches.md); and the weight of that prior."""
_STREAM_PRIOR_WEIGHT, _STREAM_MEMORY, _LONG_STREAM_MEMORY = 6.0, 24.0, 48.0
"""Draft tokens of one stream."""
_LEARNING_RATE, _MAX_OFFSET = 0.25, 3.0
"""Of a stream's offset, in log-odds."""


def _prior(confidence: float) -> float:
    """Before anything was observed: half of the draft tokens without any margin are accepted."""
    return 1.0 - 0.5 * math.exp(-confidence / 2.0)


class Calibration:
    """Acceptance rates of one draft in all streams, by drafter and bin of confidence.

    The confidence of each drafter is on a scale of its own.
    """

    def __init__(self) -> None:
        """Begin with a mild prior."""
        self.forget()

    def forget(self) -> None:
        """Begin anew: what was learned so far may be of another draft."""
        middles = [low + 0.1 for low in (0.0, *_BOUNDS)]
        self._shares = {
            drafter: [Share(_prior(middle), _PRIOR_WEIGHT, _MEMORY) for middle in middles]
            for drafter in Drafter
        }
        self.mean = Share(_OPTIMISTIC, _OPTIMISM, _MEMORY)
        self.second = Share(_SECOND_BEST, _SECOND_WEIGHT, _MEMORY)
        """How often the second-best token is right where the draft token was rejected."""

    def chance(self, draft_token: DraftToken) -> float:
        """That such a draft token is accepted when all before it were."""
        return self._share(draft_token).value

    def observe(self, draft_token: DraftToken, accepted: bool) -> None:
        """A draft token was verified, behind others that were all accepted."""
        self._share(draft_token).observe(accepted)
        self.mean.observe(accepted)

    def observe_rejected(self, draft_token: DraftToken, picked: int) -> None:
        """The target picked another token than this one."""
        if draft_token.second is not None:
            self.second.observe(picked == draft_token.second)

    def _share(self, draft_token: DraftToken) -> Share:
        return self._shares[draft_token.drafter][bisect(_BOUNDS, draft_token.confidence)]


@dataclass(slots=True)
class StreamAcceptance:
    """Chances in one stream: those of all streams, moved by an offset in log-odds.

    The offset is learned online from the stream's own verdicts. mean: its acceptance rate;
    long_mean: of more draft tokens, so that it scatters less.
    """

    calibration: Calibration
    offset: float = 0.0
    mean: Share = field(init=False)
    long_mean: Share = field(init=False)

    def __post_init__(self) -> None:
        """Begin with the acceptance rate in all streams."""
        prior = self.calibration.mean.value
        self.mean = Share(prior, _STREAM_PRIOR_WEIGHT, _STREAM_MEMORY)
        self.long_mean = Share(prior, _STREAM_PRIOR_WEIGHT, _LONG_STREAM_MEMORY)

    def chance(self, draft_token: DraftToken) -> float:
        """That a draft token at hand is accepted when all before it are."""
        return _moved(self.calibration.chance(draft_token), self.offset)

    def all_right(self, draft_tokens: Sequence[DraftToken]) -> float:
        """That all of them are accepted."""
        return math.prod(self.chance(token) for token in draft_tokens)

    def second_chance(self, draft_token: DraftToken) -> float:
        """That its second-best token is the target's, when all before it are accepted."""
        return (1.0 - self.chance(draft_token)) * self.calibration.second.value

    @property
    def next_chance(self) -> float:
        """That a draft token not made yet is accepted when all before it are."""
        return self.mean.value

    def doubt(self) -> None:
        """Let a few draft tokens change the estimate: the text after a pause may be another one."""
        for mean in (self.mean, self.long_mean):
            mean.doubt(_OPTIMISM / 2)
        self.offset = 0.0

    def observe(self, draft_tokens: tuple[DraftToken, ...], verdict: Verdict) -> None:
        """Learn of the draft tokens that were verified, up to the first that was rejected."""
        for position, token in enumerate(draft_tokens[: verdict.accepted + 1]):
            accepted = position < verdict.accepted
            error = float(accepted) - self.chance(token)
            self.offset = max(-_MAX_OFFSET, min(_MAX_OFFSET, self.offset + _LEARNING_RATE * error))
            self.calibration.observe(token, accepted)
            self.mean.observe(accepted)
            self.long_mean.observe(accepted)
            if not accepted and position < len(verdict.token_ids):
                self.calibration.observe_rejected(token, verdict.token_ids[position])


def _moved(chance: float, offset: float) -> float:
    """A chance, moved by `offset` in log-odds."""
    if chance >= 1.0:
        return 1.0
    moved = chance / (1.0 - chance) * math.exp(offset)
    return moved / (1.0 + moved)
