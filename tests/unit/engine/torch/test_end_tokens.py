"""End tokens as model folders name them: whatever no output can end with is left out."""

from types import SimpleNamespace
from typing import Any

import pytest

from paceline.engine.torch.generation_config import eos_token_ids


@pytest.mark.parametrize(
    ("own", "generation", "expected"),
    [
        (2, "absent", (2,)),
        ([2, 3], "absent", (2, 3)),
        (None, "absent", ()),
        (2, None, (2,)),
        (2, 5, (5,)),
        (2, [5, 100], (5,)),
        (2, [100, 151643], (2,)),
        ([-1, 2, None], "absent", (2,)),
        (100, "absent", ()),
        (-1, [-1, 4, 4], (4,)),
    ],
)
def test_ids_beyond_the_vocabulary_below_0_and_none_are_left_out(
    own: Any, generation: Any, expected: tuple[int, ...]
) -> None:
    content = {} if generation == "absent" else {"eos_token_id": generation}
    config = SimpleNamespace(eos_token_id=own, vocab_size=100)
    assert eos_token_ids(content, config, config) == expected
