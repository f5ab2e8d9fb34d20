"""A draft of another vocabulary: its model has its own ids, all else works on the target's."""

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from paceline.engine.interfaces import Logits
from paceline.protocol.vocabulary import VocabularyMap


class TargetIds:
    """Turns the target's ids into the draft's, and the draft's logits into the target's order.

    The sampler then works on the target's ids alone, as on the target: noise, bias and stop tokens
    are those of the same tokens, and tokens that the draft does not have are never picked.
    """

    def __init__(self, vocabulary: VocabularyMap | None) -> None:
        """Take the map; None: ids are the same."""
        self._map = vocabulary
        self._draft_ids: NDArray[np.int64] | None = None
        if vocabulary is not None:
            self._draft_ids = np.full(vocabulary.size, vocabulary.unknown, np.int64)
            for run in vocabulary.runs:
                ids = np.arange(run.draft, run.draft + run.count)
                self._draft_ids[run.target : run.target + run.count] = ids

    def to_draft(self, token_ids: Sequence[int]) -> tuple[int, ...]:
        """The draft's ids of the target's tokens."""
        if self._draft_ids is None:
            return tuple(token_ids)
        return tuple(self._draft_ids[np.asarray(token_ids, np.int64)].tolist())

    def from_draft(self, logits: Logits) -> Logits:
        """The draft's logits, [its vocabulary], by the target's ids: -inf where it has no token."""
        if self._map is None:
            return logits
        row = np.full(self._map.size, -np.inf, logits.dtype)
        for run in self._map.runs:
            row[run.target : run.target + run.count] = logits[run.draft : run.draft + run.count]
        return row


@lru_cache(maxsize=8)
def target_ids(vocabulary: VocabularyMap | None) -> TargetIds:
    """The same for all sessions of one pair of vocabularies."""
    return TargetIds(vocabulary)
