"""What holds an output to a grammar, as the sampler sees it. Pure."""

from typing import Protocol

import numpy as np
from numpy.typing import NDArray

Mask = NDArray[np.bool_]


class Matcher(Protocol):
    """Follows the output of one stream through a grammar."""

    def append(self, token: int) -> None:
        """One more output token, which may leave the grammar."""

    def truncate(self, count: int) -> None:
        """Keep the first `count` output tokens."""

    def expect(self, draft_tokens: tuple[int, ...]) -> None:
        """These are likely to come next: have the masks ready, while the model runs."""

    def mask(self) -> Mask | None:
        """Which ids may come next, [vocabulary]; None where the output has left the grammar."""


class Grammar(Protocol):
    """A language over a model's tokens."""

    def matcher(self) -> Matcher:
        """One for a stream, at the beginning of its output."""
