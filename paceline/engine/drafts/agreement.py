"""How often a draft in 4 bits has the token first that its weights in bfloat16 have first.

The text is the draft's own, so that no tokenizer is needed, and nobody's text.
"""

from collections.abc import Sequence

import numpy as np

from paceline.engine.interfaces import Runner, Span

TOKENS = 128
"""Of each text."""


def written(runner: Runner, start: int, texts: int) -> tuple[list[list[int]], list[list[int]]]:
    """So many texts, sampled side by side behind token `start`, and the first choices within them.

    Texts begin with `start`; each choice is what follows the token at its place.
    """
    noise = np.random.default_rng(0)
    caches = [runner.new_cache() for _ in range(texts)]
    found: list[list[int]] = [[start] for _ in caches]
    firsts: list[list[int]] = [[] for _ in caches]
    for position in range(TOKENS):
        batch = [
            (cache, Span(position, (text[-1],), 1))
            for cache, text in zip(caches, found, strict=True)
        ]
        for [row], text, first in zip(runner.forward(batch), found, firsts, strict=True):
            first.append(int(row.argmax()))
            # Sampled at temperature 1: the Gumbel-max trick.
            text.append(int((row + noise.gumbel(size=row.shape)).argmax()))
    return [text[:-1] for text in found], firsts


def share_right(choices: Sequence[Sequence[int]], right: Sequence[Sequence[int]]) -> float:
    """The share of choices that are the right ones, of all texts."""
    return float(np.mean(np.equal(choices, right)))
