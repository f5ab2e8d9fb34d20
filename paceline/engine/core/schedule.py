"""Which spans share a step: short ones first, then pieces of prompts, up to a row budget."""

from collections.abc import Iterable
from typing import TypeVar

from paceline.engine.interfaces import Span

Key = TypeVar("Key")

PROMPT_SHARE = 4
"""While prompts wait they are left one row of so many, however many streams decode."""


def schedule(wanted: Iterable[tuple[Key, Span]], row_budget: int) -> list[tuple[Key, Span]]:
    """Spans to run in one step, at most `row_budget` rows of them; order is precedence.

    Decode steps and verify blocks, which need logits of every row or nearly, go first and
    whole, unless they are longer than block_rows: then the rows that need no logits go ahead.
    Prompts share what is left, and the last one that fits goes in part. A long prompt thus
    never stalls the others for longer than one budget, nor they it.
    """
    wanted = list(wanted)
    prompts = [item for item in wanted if _is_prompt(item[1])]
    blocks = [item for item in wanted if not _is_prompt(item[1])]
    step: list[tuple[Key, Span]] = []
    room = block_rows(row_budget) if prompts else row_budget
    for key, span in blocks:
        piece = _fitting(span, room, row_budget)
        if piece is not None:
            step.append((key, piece))
            room -= len(piece.token_ids)
    room = row_budget - sum(len(span.token_ids) for _, span in step)
    for key, span in prompts:
        if room > 0:
            piece = span if len(span.token_ids) <= room else span.head(room)
            step.append((key, piece))
            room -= len(piece.token_ids)
    return step


def block_rows(row_budget: int) -> int:
    """Most rows with logits in a span that gets its turn while prompts wait, too."""
    return row_budget - row_budget // PROMPT_SHARE


def _fitting(span: Span, room: int, row_budget: int) -> Span | None:
    """The block, or the part of a long one that can go ahead; None where there is no room."""
    rows = len(span.token_ids)
    if rows <= room:
        return span
    ahead = min(room, rows - span.logit_rows)
    return span.head(ahead) if rows > block_rows(row_budget) and ahead > 0 else None


def _is_prompt(span: Span) -> bool:
    return len(span.token_ids) > 2 * span.logit_rows
