"""How likely a draft token is right: learned of verdicts, by how sure the drafter was. Pure."""

import math
from bisect import bisect
from collections.abc import Sequence
from dataclasses import dataclass, field

from paceline.averages import Share
from paceline.protocol.proposal import Drafter, DraftToken
from paceline.protocol.verdict import Verdict

_BOUNDS = (0.25, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0, 8.0, 12.0, 16.0)
_PRIOR_WEIGHT = 4.0
_MEMORY = 400.0
_STREAM_MEMORY = 24.0
_STREAM_PRIOR = 6.0
_OPTIMISM = 4.0
_STEP = 0.25
_MAX_OFFSET = 3.0


def _prior(confidence: float) -> float:
    """Where nothing was seen yet: half of the draft tokens without any margin are right."""
    return 1.0 - 0.5 * math.exp(-confidence / 2.0)


class Calibration:
    """Chances by confidence of all streams of one draft: a drafter's scale is its own."""

    def __init__(self) -> None:
        """Begin with a mild prior."""
        self.forget()

    def forget(self) -> None:
        """Begin anew: what was learned so far was of another draft, or may have been."""
        middles = [low + 0.1 for low in (0.0, *_BOUNDS)]
        self._shares = {
            drafter: [Share(_prior(middle), _PRIOR_WEIGHT, _MEMORY) for middle in middles]
            for drafter in Drafter
        }
        # Optimistic, so that a draft is tried; a few rounds tell.
        self.mean = Share(0.85, _OPTIMISM, _MEMORY)

    def chance(self, draft_token: DraftToken) -> float:
        """That such a draft token is accepted when all before it were."""
        return self._share(draft_token).value

    def observe(self, draft_token: DraftToken, accepted: bool) -> None:
        """A draft token was verified, behind others that were all accepted."""
        self._share(draft_token).observe(accepted)
        self.mean.observe(accepted)

    def _share(self, draft_token: DraftToken) -> Share:
        return self._shares[draft_token.drafter][bisect(_BOUNDS, draft_token.confidence)]


@dataclass(slots=True)
class StreamAcceptance:
    """Chances in one stream: those of all, moved by what this one's own draft tokens came to."""

    calibration: Calibration
    offset: float = 0.0
    mean: Share = field(init=False)

    def __post_init__(self) -> None:
        """Begin as the others go."""
        self.mean = Share(self.calibration.mean.value, _STREAM_PRIOR, _STREAM_MEMORY)

    def chance(self, draft_token: DraftToken) -> float:
        """That a draft token at hand is accepted when all before it are."""
        return _moved(self.calibration.chance(draft_token), self.offset)

    def all_right(self, draft_tokens: Sequence[DraftToken]) -> float:
        """That all of them are accepted."""
        return math.prod(self.chance(draft_token) for draft_token in draft_tokens)

    @property
    def next_chance(self) -> float:
        """That a draft token not made yet is accepted when all before it are."""
        return self.mean.value

    def doubt(self) -> None:
        """Be ready to change one's mind: what was true before a pause need not be after it."""
        self.mean.doubt(_OPTIMISM / 2)
        self.offset = 0.0

    def observe(self, draft_tokens: tuple[DraftToken, ...], verdict: Verdict) -> None:
        """Learn of the tokens that were verified; those behind the first wrong one say nothing."""
        for place, draft_token in enumerate(draft_tokens[: verdict.accepted + 1]):
            accepted = place < verdict.accepted
            error = float(accepted) - self.chance(draft_token)
            self.offset = max(-_MAX_OFFSET, min(_MAX_OFFSET, self.offset + _STEP * error))
            self.calibration.observe(draft_token, accepted)
            self.mean.observe(accepted)


def _moved(chance: float, offset: float) -> float:
    """A chance, on the scale of log-odds moved by `offset`."""
    odds = chance / (1.0 - chance) if chance < 1.0 else math.inf
    moved = odds * math.exp(offset)
    return moved / (1.0 + moved) if math.isfinite(moved) else 1.0
