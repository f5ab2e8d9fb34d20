"""Which spans share a step: short ones first, then pieces of prompts, up to a row budget."""

from collections.abc import Iterable
from typing import TypeVar

from paceline.engine.work import Span

Key = TypeVar("Key")

PROMPT_SHARE = 4
"""While prompts wait they are left one row of so many, however many streams decode."""


def schedule(wanted: Iterable[tuple[Key, Span]], row_budget: int) -> list[tuple[Key, Span]]:
    """Spans to run in one step, at most `row_budget` rows of them; order is precedence.

    Decode steps and verify blocks, which need logits of every row or nearly, go first and
    whole; prompts share what is left, and the last one that fits goes in part. A long
    prompt thus never stalls the others for longer than one budget, nor they it.
    """
    wanted = list(wanted)
    prompts = [item for item in wanted if _is_prompt(item[1])]
    blocks = [item for item in wanted if not _is_prompt(item[1])]
    step: list[tuple[Key, Span]] = []
    room = row_budget - (row_budget // PROMPT_SHARE if prompts else 0)
    for key, span in blocks:
        if len(span.token_ids) <= room:
            step.append((key, span))
            room -= len(span.token_ids)
    room = row_budget - sum(len(span.token_ids) for _, span in step)
    for key, span in prompts:
        if room > 0:
            piece = span if len(span.token_ids) <= room else span.head(room)
            step.append((key, piece))
            room -= len(piece.token_ids)
    return step


def _is_prompt(span: Span) -> bool:
    return len(span.token_ids) > 2 * span.logit_rows
