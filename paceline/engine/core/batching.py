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
    wanted = list(wanted)
    prompts = [item for item in wanted if _is_prompt(item[1])]
    blocks = [item for item in wanted if not _is_prompt(item[1])]
    step: list[tuple[Key, Span]] = []
    room = max_block_tokens(max_batched_tokens) if prompts else max_batched_tokens
    for key, span in blocks:
        piece = _fitting(span, room, max_batched_tokens)
        if piece is not None:
            step.append((key, piece))
            room -= len(piece.token_ids)
    room = max_batched_tokens - sum(len(span.token_ids) for _, span in step)
    for key, span in prompts:
        if room > 0:
            piece = span if len(span.token_ids) <= room else span.head(room)
            step.append((key, piece))
            room -= len(piece.token_ids)
    return step


def max_block_tokens(max_batched_tokens: int) -> int:
    """Most rows with logits of a span that gets its turn even while prompts wait."""
    return max_batched_tokens - max_batched_tokens // PROMPT_SHARE


def _fitting(span: Span, room: int, max_batched_tokens: int) -> Span | None:
    """The block, or the part of a long one that can go ahead; None where there is no room."""
    rows = len(span.token_ids)
    if rows <= room:
        return span
    ahead = min(room, rows - span.logit_rows)
    return span.head(ahead) if rows > max_block_tokens(max_batched_tokens) and ahead > 0 else None


def _is_prompt(span: Span) -> bool:
    return len(span.token_ids) > 2 * span.logit_rows
