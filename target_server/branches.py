"""Which branches of a Verify fit its draft tokens. Pure."""

from collections.abc import Sequence
from itertools import accumulate

from paceline.engine.interfaces import SpanBranch
from paceline.protocol.hashing import mix
from paceline.protocol.proposal import Proposal
from paceline.protocol.token_path import TokenPath


def fitting(
    path: TokenPath,
    draft_tokens: tuple[int, ...],
    branches: Sequence[Proposal],
    end: int,
    rows: int,
) -> tuple[SpanBranch, ...]:
    """Those that begin at one of the draft tokens behind `path`, in their order.

    end: the position that none reaches; rows: most tokens of all together. Of what is too long the
    head is left. Where several have the same first token at the same position, the first counts.
    """
    digests = list(accumulate(draft_tokens, mix, initial=path.digest))
    found: dict[tuple[int, int], SpanBranch] = {}
    for branch in branches:
        at = branch.position - len(path)
        tokens = branch.token_ids[: max(0, min(end - branch.position, rows))]
        if not (tokens and 0 <= at < len(draft_tokens) and digests[at] == branch.base_digest):
            continue
        if tokens[0] != draft_tokens[at] and (at, tokens[0]) not in found:
            found[at, tokens[0]] = SpanBranch(branch.position, tokens)
            rows -= len(tokens)
    return tuple(found.values())
