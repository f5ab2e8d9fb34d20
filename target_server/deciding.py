"""What a step decides, of the rows that it computed. Pure."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from paceline.engine.interfaces import Logits, Rows, SpanBranch
from paceline.engine.sampling.history import History
from paceline.engine.sampling.requests import Pick
from paceline.engine.sampling.sampler import pick
from paceline.errors import Internal
from paceline.protocol.session import Opening

Row = Logits | Pick
"""Logits, [vocabulary], or what was picked from them."""


def verify(
    rows: Rows, draft_tokens: tuple[int, ...], opening: Opening, history: History
) -> list[int]:
    """The tokens that a block decides: accepted draft tokens, then one of the target's own.

    rows: len(draft_tokens) + 1 of them, logits or picks; row i is for the position of
    draft_tokens[i]. A
    draft token is accepted exactly when it is the target's own pick there; the first that is not is
    replaced by that pick. After all of them comes a bonus token. Nothing comes after a stop token.
    `history` grows by the result. Raises Internal where no token that may come has a number.
    """
    decided: list[int] = []
    for index, row in enumerate(rows):
        token, is_number = _pick(row, opening, history)
        if not is_number:
            raise Internal(f"the model's logits at position {len(history)} are no numbers")
        decided.append(token)
        history.append(token)
        rejected = index == len(draft_tokens) or token != draft_tokens[index]
        if rejected or token in opening.stop_token_ids:
            break
    return decided


@dataclass(frozen=True, slots=True)
class Decided:
    """The tokens, and the row of each. accepted: of the draft tokens, in front.

    branch: index of the one that was taken, of which branch_accepted tokens follow.
    """

    tokens: list[int]
    rows: list[Row]
    accepted: int
    branch: int | None = None
    branch_accepted: int = 0


def decide(
    rows: Rows,
    draft_tokens: tuple[int, ...],
    branches: Sequence[SpanBranch],
    opening: Opening,
    history: History,
) -> Decided:
    """Verify the draft tokens and, where one is rejected for the first of a branch, the others.

    rows: as of `verify`, then one for each token of each branch, for the position behind it.
    """
    position, start = len(history), len(draft_tokens) + 1
    tokens = verify(rows[:start], draft_tokens, opening, history)
    accepted = _agreeing(tokens, draft_tokens)
    for index, branch in enumerate(branches):
        stop = start + len(branch.token_ids)
        if branch.position == position + accepted and [branch.token_ids[0]] == tokens[accepted:]:
            before, behind = rows[: len(tokens)], rows[start:stop]
            more = _behind(behind, branch, opening, history)
            taken = 1 + _agreeing(more, branch.token_ids[1:])
            return Decided(tokens + more, [*before, *behind], accepted, index, taken)
        start = stop
    return Decided(tokens, list(rows[: len(tokens)]), accepted)


def _behind(rows: Rows, branch: SpanBranch, opening: Opening, history: History) -> list[int]:
    """What comes behind the branch's first token, which the target picked."""
    if branch.token_ids[0] in opening.stop_token_ids:
        return []
    return verify(rows, branch.token_ids[1:], opening, history)


def _agreeing(tokens: Sequence[int], draft_tokens: Sequence[int]) -> int:
    return sum(one == other for one, other in zip(tokens, draft_tokens, strict=False))


def _pick(row: Row, opening: Opening, history: History) -> tuple[int, bool]:
    """The sampler's token, and whether its logit is a number."""
    if isinstance(row, Pick):
        return row.token, row.is_number
    token = pick(row, opening.sampling, opening.seed, history, opening.stop_token_ids)
    return token, bool(row[token] > -math.inf)
