"""The tokens before a position, as penalties see them: prompt and output counted apart."""

from collections import Counter
from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from paceline.engine.sampling.matcher import Mask, Matcher


class History:
    """Prompt and output of one stream; the output grows and is cut back, the prompt stays."""

    def __init__(
        self,
        prompt: Iterable[int],
        output: Iterable[int] = (),
        matcher: Matcher | None = None,
    ) -> None:
        """Begin with the prompt's tokens and those generated so far.

        matcher: what the output is held to, at its beginning.
        """
        self._matcher = matcher
        prompt = tuple(prompt)
        self._prompt_length = len(prompt)
        self._prompt_ids = frozenset(prompt)
        self._output: list[int] = []
        self._counts: Counter[int] = Counter()
        for token in output:
            self.append(token)

    def __len__(self) -> int:
        """The position of the next token."""
        return self._prompt_length + len(self._output)

    @property
    def output_tokens(self) -> int:
        """Tokens in the output."""
        return len(self._output)

    @property
    def output(self) -> Sequence[int]:
        """The output."""
        return self._output

    def append(self, token: int) -> None:
        """One more output token."""
        self._output.append(token)
        self._counts[token] += 1
        if self._matcher is not None:
            self._matcher.append(token)

    def truncate(self, length: int) -> None:
        """Keep the first `length` tokens of prompt and output; never less than the prompt."""
        if self._matcher is not None and len(self) > length:
            self._matcher.truncate(max(0, length - self._prompt_length))
        while len(self) > length:
            self._counts[self._output.pop()] -= 1

    def expect(self, draft_tokens: tuple[int, ...] = ()) -> None:
        """These are likely to come next: have their masks ready, while the model runs."""
        if self._matcher is not None:
            self._matcher.expect(draft_tokens)

    @property
    def mask(self) -> Mask | None:
        """Which ids what the output is held to leaves, [vocabulary]; None: all."""
        return None if self._matcher is None else self._matcher.mask()

    def seen_ids(self) -> NDArray[np.int64]:
        """Ids in prompt or output."""
        ids = self._prompt_ids | {token for token, count in self._counts.items() if count}
        return np.fromiter(ids, np.int64, len(ids))

    def output_counts(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Ids in the output, and how often each stands there."""
        counts = {token: count for token, count in self._counts.items() if count}
        return np.array(list(counts), np.int64), np.array(list(counts.values()), np.int64)
