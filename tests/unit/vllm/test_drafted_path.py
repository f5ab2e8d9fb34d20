"""A request's path: decisions and proposals cross each other, and no wrong token is drafted."""

import random

from paceline.protocol.advance import Advance
from paceline.protocol.proposal import Proposal
from paceline.protocol.token_path import TokenPath
from paceline.vllm.drafted_path import DraftedPath


def proposal(before: tuple[int, ...], *tokens: int) -> Proposal:
    return Proposal(len(before), TokenPath(before).digest, tokens)


def test_drafts_follow_what_was_decided() -> None:
    path = DraftedPath((1, 2), 8)
    path.propose(proposal((1, 2), 3, 4))
    path.propose(proposal((1, 2, 3, 4), 5))
    assert path.drafts(2, 8) == [3, 4, 5]
    assert path.drafts(2, 2) == [3, 4]
    path.commit((3,))
    assert path.drafts(3, 8) == [4, 5]
    assert path.drafts(2, 8) == []
    path.commit((9,))
    assert path.drafts(4, 8) == []
    path.propose(proposal((1, 2, 3, 4, 5), 6))  # drafted before it was told
    assert path.drafts(4, 8) == []
    path.propose(proposal((1, 2, 3, 9), 7))
    assert path.drafts(4, 8) == [7]


def test_the_draft_is_told_each_token_once() -> None:
    path = DraftedPath((1, 2), 8)
    assert path.advance() == Advance(2, (), 8)
    path.commit((3, 4))
    path.commit((5,))
    assert path.advance() == Advance(2, (3, 4, 5), 8)
    assert path.advance() == Advance(5, (), 8)


def test_whatever_comes_in_whichever_order_drafts_are_of_this_path() -> None:
    rng = random.Random(0)
    for _ in range(200):
        truth = tuple(rng.randrange(3) for _ in range(30))
        path, decided = DraftedPath(truth[:1], 8), 1
        while decided < len(truth):
            start = rng.randrange(decided + 3)
            base = (*truth[:start], *(() if rng.random() < 0.7 else (rng.randrange(3),)))
            path.propose(proposal(base, *(rng.randrange(3) for _ in range(3))))
            if rng.random() < 0.5:
                count = rng.randint(1, 3)
                path.commit(truth[decided : decided + count])
                decided = min(len(truth), decided + count)
            assert tuple(path._path.tokens[:decided]) == truth[:decided]
