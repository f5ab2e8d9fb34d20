"""Which spans share a step: short ones first, then pieces of prompts, up to a limit. Pure."""

from collections.abc import Iterable
from typing import TypeVar

from paceline.engine.interfaces import Span

Key = TypeVar("Key")

PROMPT_SHARE = 4
"""While prompts wait, one row of so many is theirs, however many streams decode."""


def fill_batch(
    wanted: Iterable[tuple[Key, Span]], max_batched_tokens: int
) -> list[tuple[Key, Span]]:
    """Spans to run in one step, at most max_batched_tokens rows; order is precedence.

    Decode steps and verify blocks, which need logits of nearly every row, go first and whole. Of
    one longer than max_block_tokens, the rows that need no logits go ahead. Prompts share what is
    left, and the last one that fits goes in part. So a long prompt never stalls the others for
    longer than a step, nor they the prompt.
    """
    prompts: list[tuple[Key, Span]] = []
    blocks: list[tuple[Key, Span]] = []
    for item in wanted:
        (prompts if _is_prompt(item[1]) else blocks).append(item)
    step: list[tuple[Key, Span]] = []
    room = max_block_tokens(max_batched_tokens) if prompts else max_batched_tokens
    for key, span in blocks:
        piece = _fitting(span, room, max_batched_tokens)
        if piece is not None:
            step.append((key, piece))
            room -= piece.rows
    if prompts:
        room = max_batched_tokens - sum(span.rows for _, span in step)
    for key, span in prompts:
        if room > 0:
            piece = span if span.rows <= room else _ahead(span, room)
            step.append((key, piece))
            room -= piece.rows
    return step


def max_block_tokens(max_batched_tokens: int) -> int:
    """Most rows with logits of a span that gets its turn even while prompts wait."""
    return max_batched_tokens - max_batched_tokens // PROMPT_SHARE


def _fitting(span: Span, room: int, max_batched_tokens: int) -> Span | None:
    """The block, or the part of a long one that can go ahead; None where there is no room."""
    if span.rows <= room:
        return span
    ahead = _ahead(span, room)
    return ahead if span.rows > max_block_tokens(max_batched_tokens) and ahead.rows > 0 else None


def _ahead(span: Span, room: int) -> Span:
    """Of the rows that need no logits those for which there is room."""
    return span.head(min(room, span.rows - span.wanted_rows))


def _is_prompt(span: Span) -> bool:
    return span.rows > 2 * span.wanted_rows
