"""Which spans share a step: short ones first, then pieces of prompts, up to a row budget."""

from collections.abc import Iterable
from typing import TypeVar

from paceline.engine.work import Span

Key = TypeVar("Key")


def schedule(wanted: Iterable[tuple[Key, Span]], row_budget: int) -> list[tuple[Key, Span]]:
    """Spans to run in one step, at most `row_budget` rows of them; order is precedence.

    Decode steps and verify blocks, which need logits of every row or nearly, go first and
    whole; prompts share what is left, and the last one that fits goes in part. A long
    prompt thus never stalls the others for longer than one budget.
    """
    spans = sorted(wanted, key=lambda item: _is_prompt(item[1]))
    step: list[tuple[Key, Span]] = []
    room = row_budget
    for key, span in spans:
        rows = len(span.token_ids)
        if rows <= room:
            step.append((key, span))
        elif _is_prompt(span) and room > 0:
            step.append((key, span.head(room)))
            rows = room
        else:
            continue
        room -= rows
    return step


def _is_prompt(span: Span) -> bool:
    return len(span.token_ids) > 2 * span.logit_rows
