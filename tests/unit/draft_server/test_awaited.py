"""Draft tokens that are waited for go at once: seen from the event loop, while the worker works."""

import pytest

from draft_server.branched_path import BranchedPath, Pick
from draft_server.drafters.hybrid import HybridDrafter
from draft_server.drafters.model import ModelDrafter
from draft_server.drafters.ngram import NgramDrafter
from draft_server.lookahead import Lookahead
from draft_server.prompt_lookup import PromptLookup
from draft_server.service import _more_to_come
from paceline.engine.interfaces import StepReport
from paceline.protocol.proposal import Drafter
from paceline.protocol.sampling import SamplingParams
from paceline.protocol.session import Advance, Load, Opening
from tests.table_model import TableRunner, TokenCache

OPENING = Opening("test", (1, 2, 1, 2), SamplingParams(), 7, 40)
REPORT = StepReport(0.0, Load(), None)
LENGTH = len(OPENING.prompt_token_ids)


class Looking:
    """Takes what is delivered; the event loop looks just before that."""

    def __init__(self) -> None:
        self.seen: list[bool] = []
        self.drafter: ModelDrafter | NgramDrafter | None = None

    def __call__(self, _: object) -> None:
        assert self.drafter is not None
        self.seen.append(_more_to_come(self.drafter))


def a_step(drafter: ModelDrafter, runner: TableRunner, cache: TokenCache) -> None:
    span = drafter.plan(cache.length)
    if span is not None:
        [logits] = runner.forward([(cache, span)])
        drafter.commit(span, logits, REPORT)


def test_the_last_draft_token_is_not_left_behind_by_those_before_it() -> None:
    """It is made, and not delivered yet: who looks then must still wait for it."""
    looking = Looking()
    drafter = ModelDrafter(OPENING, looking)
    looking.drafter = drafter
    drafter.advance(Advance(LENGTH, (), lookahead=8, awaited=3))
    runner, cache = TableRunner(4), TokenCache()
    for _ in range(3):
        a_step(drafter, runner, cache)
    assert looking.seen == [True] * 3
    assert not _more_to_come(drafter)
    assert _more_to_come(drafter), "only once"


@pytest.mark.parametrize("make", [NgramDrafter, HybridDrafter])
def test_what_is_looked_up_counts_once_it_is_delivered(
    make: type[NgramDrafter] | type[HybridDrafter],
) -> None:
    prompt = (1, 2) * 8
    opening = Opening("test", prompt, SamplingParams(), 7, 40)
    early: list[bool] = []
    drafter = make(
        opening, lambda _: early.append(drafter.session.take_awaited()), PromptLookup(prompt)
    )
    drafter.advance(Advance(len(prompt), (), lookahead=8, awaited=1))
    drafter.plan(0)
    assert early[0] is False
    assert any(early[1:]) or drafter.session.take_awaited()


def test_an_advance_that_is_applied_while_somebody_looks_is_not_lost() -> None:
    session = Lookahead(OPENING)
    applied: list[int] = []

    class Switching(int):
        """The worker gets its turn just when this is compared."""

        def __gt__(self, other: object) -> bool:
            return self._compare(other) > 0

        def __le__(self, other: object) -> bool:
            return self._compare(other) <= 0

        def _compare(self, other: object) -> int:
            assert isinstance(other, int)
            if not applied:
                applied.append(1)
                session.post(Advance(LENGTH, (), lookahead=8, awaited=2))
                session.apply()
            return int(self) - int(other)

    session.post(Advance(LENGTH, (), lookahead=8, awaited=1))
    session.apply()
    session.propose((Pick(3, 1.0),), Drafter.MODEL)
    session.told()
    session._awaited = (Switching(LENGTH + 1),)
    assert session.take_awaited()
    assert not session.take_awaited()
    session.propose((Pick(3, 1.0),), Drafter.MODEL)
    session.told()
    assert session.take_awaited()


def test_draft_tokens_that_a_rejection_drops_are_waited_for_anew() -> None:
    session = Lookahead(OPENING)
    session.post(Advance(LENGTH, (), lookahead=8))
    session.apply()
    session.propose(tuple(Pick(3, 1.0) for _ in range(4)), Drafter.MODEL)
    session.told()
    session.post(Advance(LENGTH, (2,), lookahead=8, awaited=2))
    session.apply()
    assert not session.take_awaited()
    for expected in (False, True):
        session.propose((Pick(3, 1.0),), Drafter.MODEL)
        session.told()
        assert session.take_awaited() is expected


def test_a_path_is_never_seen_shorter_than_what_is_committed() -> None:
    """By who copies the committed tokens on the event loop, whenever the worker is interrupted."""
    path = BranchedPath((1, 2))
    path.draft_token(tuple(Pick(3, 1.0) for _ in range(3)))
    before = path.tokens[: path.committed]
    seen: list[list[int]] = []
    truncate, extend = path.truncate, path.extend

    def looked(method: object) -> object:
        def wrapped(*arguments: object) -> None:
            seen.append(path.tokens[: path.committed])
            method(*arguments)  # type: ignore[operator]
            seen.append(path.tokens[: path.committed])

        return wrapped

    path.truncate = looked(truncate)  # type: ignore[method-assign,assignment]
    path.extend = looked(extend)  # type: ignore[method-assign,assignment]
    path.commit((3, 2))
    assert seen
    assert all(tokens[:2] == before for tokens in seen)
    assert path.tokens[: path.committed] == [1, 2, 3, 2]
