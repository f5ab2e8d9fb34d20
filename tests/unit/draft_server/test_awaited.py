"""Draft tokens that are waited for go at once: seen from the event loop, while the worker works."""

import pytest

from draft_server.branched_path import BranchedPath
from draft_server.drafters.hybrid import HybridDrafter
from draft_server.drafters.model import ModelDrafter
from draft_server.drafters.ngram import NgramDrafter
from draft_server.run_ahead import RunAhead
from draft_server.service import _more_to_come
from paceline.engine.interfaces import StepReport
from paceline.protocol.advance import Advance
from paceline.protocol.proposal import DraftToken
from paceline.protocol.sampling import SamplingParams
from paceline.protocol.session import Load, Opening
from tests.table_model import TableRunner, TokenCache
from tests.unit.draft_server.stepped_engine import context

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
    drafter = ModelDrafter(context(OPENING, looking))
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
    drafter: NgramDrafter | HybridDrafter = make(
        context(opening, lambda _: early.append(drafter.ahead.awaited.take()))
    )
    drafter.advance(Advance(len(prompt), (), lookahead=8, awaited=1))
    drafter.plan(0)
    assert early[0] is False
    assert any(early[1:]) or drafter.ahead.awaited.take()


def test_an_advance_that_is_applied_while_somebody_looks_is_not_lost() -> None:
    ahead = RunAhead(OPENING)
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
                ahead.post(Advance(LENGTH, (), lookahead=8, awaited=2))
                ahead.apply()
            return int(self) - int(other)

    ahead.post(Advance(LENGTH, (), lookahead=8, awaited=1))
    ahead.apply()
    ahead.propose((DraftToken(3, 1.0),))
    ahead.delivered()
    ahead.awaited._until = (Switching(LENGTH + 1),)
    assert ahead.awaited.take()
    assert not ahead.awaited.take()
    ahead.propose((DraftToken(3, 1.0),))
    ahead.delivered()
    assert ahead.awaited.take()


def test_draft_tokens_that_a_rejection_drops_are_waited_for_anew() -> None:
    ahead = RunAhead(OPENING)
    ahead.post(Advance(LENGTH, (), lookahead=8))
    ahead.apply()
    ahead.propose([DraftToken(3, 1.0)] * 4)
    ahead.delivered()
    ahead.post(Advance(LENGTH, (2,), lookahead=8, awaited=2))
    ahead.apply()
    assert not ahead.awaited.take()
    for expected in (False, True):
        ahead.propose((DraftToken(3, 1.0),))
        ahead.delivered()
        assert ahead.awaited.take() is expected


def test_a_path_is_never_seen_shorter_than_what_is_committed() -> None:
    """By who copies the committed tokens on the event loop, whenever the worker is interrupted."""
    path = BranchedPath((1, 2))
    path.append([DraftToken(3, 1.0)] * 3)
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
