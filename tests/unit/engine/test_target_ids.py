"""A draft of another vocabulary works on the target's ids."""

import numpy as np

from paceline.engine.target_ids import TargetIds
from paceline.protocol.vocabulary import Run, VocabularyMap


def test_logits_are_by_the_targets_ids_and_none_of_what_the_draft_lacks() -> None:
    ids = TargetIds(VocabularyMap(5, (Run(0, 3, 2), Run(3, 0, 1))))
    row = ids.from_draft(np.array([10.0, 11.0, 12.0, 13.0, 14.0]))
    assert row.tolist() == [13.0, 14.0, -np.inf, 10.0, -np.inf]


def test_without_a_map_nothing_changes() -> None:
    row = np.array([1.0, 2.0])
    assert TargetIds(None).from_draft(row) is row
    assert TargetIds(None).to_draft([1, 0]) == (1, 0)
