"""What a draft proposes, as plain values."""

from dataclasses import replace
from functools import reduce

from paceline.protocol.hashing import mix
from paceline.values import Name, value


class Drafter(Name):
    """What proposes: a draft model, or lookup of what followed the same tokens before."""

    MODEL = "model"
    NGRAM = "ngram"


@value(frozen=True, slots=True)
class DraftToken:
    """A token that a drafter proposes.

    confidence: how sure the drafter is, on its own scale. A model: the margin between its two
    best noisy scores. Prompt lookup: tokens that matched. second: the token with the second-best
    score, where the drafter is a model that says so.
    """

    id: int
    confidence: float = 0.0
    drafter: Drafter = Drafter.MODEL
    second: int | None = None


@value(frozen=True, slots=True)
class Proposal:
    """A run of draft tokens on the path whose digest before `position` is `base_digest`.

    confidences: see DraftToken, one per token. second_token_ids: likewise, or empty; where there
    is no second-best token, the token itself.
    A proposal that begins before the end of the draft tokens and differs from them is a branch:
    it is for the case that the target rejects the draft token at its position.
    """

    position: int
    base_digest: int
    token_ids: tuple[int, ...]
    confidences: tuple[float, ...] = ()
    drafter: Drafter = Drafter.MODEL
    second_token_ids: tuple[int, ...] = ()


End = tuple[int, int, Drafter]
"""Position and digest behind a proposal, and what made it."""


def joined(proposals: list[Proposal]) -> list[Proposal]:
    """The same draft tokens in as few proposals as can be: of one path and one drafter each.

    An empty one stays where it is: it says that nothing follows what came before it.
    """
    result: list[Proposal] = []
    ends: dict[End, int] = {}
    for proposal in proposals:
        begin = (proposal.position, proposal.base_digest, proposal.drafter)
        if not proposal.token_ids:
            ends.clear()
            result.append(proposal)
            continue
        index = ends.pop(begin, len(result))
        if index == len(result):
            result.append(proposal)
        else:
            result[index] = continued(result[index], proposal)
        ends[end_of(proposal)] = index
    return result


def continued(first: Proposal, second: Proposal) -> Proposal:
    """Both as one; `second` begins where `first` ends."""
    return replace(
        first,
        token_ids=first.token_ids + second.token_ids,
        confidences=first.confidences + second.confidences,
        second_token_ids=_seconds_of(first, second),
    )


def _seconds_of(*proposals: Proposal) -> tuple[int, ...]:
    """One per token, where there is a second-best one at all."""
    if not any(one.second_token_ids for one in proposals):
        return ()
    return tuple(token for one in proposals for token in one.second_token_ids or one.token_ids)


def end_of(proposal: Proposal) -> End:
    """Position and digest behind a proposal, which one that continues it begins with."""
    digest = reduce(mix, proposal.token_ids, proposal.base_digest)
    return proposal.position + len(proposal.token_ids), digest, proposal.drafter
