"""A draft behind a target's vocabulary: it reads in its own ids, and says in theirs."""

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from paceline.engine.interfaces import Logits
from paceline.protocol.vocabulary import VocabularyMap


class Words:
    """Between the ids of a target and those of a draft. One that changes nothing has no map.

    The law then works on the target's ids alone, as the target does: noise, bias and stop tokens
    are those of the same tokens, and what the draft does not have is never picked.
    """

    def __init__(self, vocabulary: VocabularyMap | None) -> None:
        """Take the map; None: ids are the same."""
        self._map = vocabulary
        self._read: NDArray[np.int64] | None = None
        if vocabulary is not None:
            self._read = np.full(vocabulary.size, vocabulary.unknown, np.int64)
            for run in vocabulary.runs:
                ids = np.arange(run.draft, run.draft + run.count)
                self._read[run.target : run.target + run.count] = ids

    def read(self, tokens: Sequence[int]) -> tuple[int, ...]:
        """The draft's ids of the target's tokens."""
        if self._read is None:
            return tuple(tokens)
        return tuple(self._read[np.asarray(tokens, np.int64)].tolist())

    def row(self, logits: Logits) -> Logits:
        """Logits of one row by the target's ids; of tokens that the draft does not have none."""
        if self._map is None:
            return logits
        row = np.full(self._map.size, -np.inf, logits.dtype)
        for run in self._map.runs:
            row[run.target : run.target + run.count] = logits[run.draft : run.draft + run.count]
        return row


@lru_cache(maxsize=8)
def words_of(vocabulary: VocabularyMap | None) -> Words:
    """The same for all sessions of one pair of vocabularies."""
    return Words(vocabulary)
