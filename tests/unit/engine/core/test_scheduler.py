"""The engine's core alone makes an engine: here on a virtual clock, without a thread."""

import math

import pytest

from paceline.engine.core.scheduler import Scheduler
from paceline.engine.interfaces import Span

STEP_SECONDS = 1.0
ROW_SECONDS = 0.125


class VirtualEngine:
    """Sessions that ask for spans at stated times, and the steps that they get.

    asks: when each asks, by its name. Whoever is answered asks again `think` seconds later.
    """

    def __init__(self, asks: dict[str, float], think: float, max_batched_tokens: int = 64) -> None:
        self.scheduler: Scheduler[str] = Scheduler(max_batched_tokens)
        self.asks = asks
        self.think = think
        self.now = 0.0
        self.wanted: dict[str, Span] = {}
        self.steps: list[tuple[float, str]] = []

    def run(self, steps: int) -> None:
        while len(self.steps) < steps:
            self.advance(0.0 if self.wanted else math.inf)
            while (wait := self.scheduler.max_wait(len(self.wanted), self.now)) > 0:
                self.advance(wait)
            self.step()

    def advance(self, seconds: float) -> None:
        """So many seconds, or until the next one asks."""
        self.now = min(self.now + seconds, min(self.asks.values(), default=math.inf))
        for key in [key for key, asks in self.asks.items() if asks <= self.now]:
            del self.asks[key]
            self.wanted[key] = Span(0, (0,), 1)
            self.scheduler.gather.asked(key, self.now)

    def step(self) -> None:
        step = self.scheduler.begin(list(self.wanted.items()))
        started = self.now
        ended = started + STEP_SECONDS + ROW_SECONDS * len(step.spans)
        while min(self.asks.values(), default=math.inf) <= ended:
            self.advance(math.inf)
        self.now = ended
        self.scheduler.end(step, started, ended)
        self.steps.append((started, "".join(sorted(key for key, _ in step.spans))))
        for key, _ in step.spans:
            if key not in step.pieces:
                del self.wanted[key]
                self.scheduler.gather.answered(key, self.now)
                self.asks[key] = self.now + self.think


def test_who_misses_a_step_has_the_next_and_once_it_is_known_all_share_them() -> None:
    engine = VirtualEngine({"a": 0.0, "b": 0.25}, think=0.125)
    engine.run(6)
    assert [names for _, names in engine.steps] == ["a", "b", "a", "ab", "ab", "ab"]
    assert engine.scheduler.queued == 0


def test_who_thinks_longer_than_a_step_is_not_waited_for() -> None:
    engine = VirtualEngine({"a": 0.0, "b": 0.5}, think=3.0)
    engine.run(4)
    assert [names for _, names in engine.steps] == ["a", "b", "a", "b"]


def test_what_is_reported_of_steps() -> None:
    engine = VirtualEngine({"a": 0.0, "b": 0.0, "c": 0.0}, think=0.125, max_batched_tokens=2)
    engine.run(1)
    statistics = engine.scheduler.statistics
    assert engine.scheduler.queued == 1
    assert (statistics.steps, statistics.rows, statistics.seconds) == (1, 2, 1.25)
    assert statistics.ended == statistics.pace == 1.25
    assert statistics.cost_model is None
    engine.run(20)
    assert statistics.cost_model is not None
    assert statistics.cost_model.step_seconds == pytest.approx(STEP_SECONDS)
    assert statistics.cost_model.token_seconds == pytest.approx(ROW_SECONDS)


def test_a_piece_of_a_prompt_is_no_answer_and_its_session_goes_on() -> None:
    scheduler: Scheduler[str] = Scheduler(8)
    whole = Span(0, (0,) * 20, 1)
    step = scheduler.begin([("prompt", whole), ("short", Span(5, (0,), 1))])
    assert [(key, len(span.token_ids)) for key, span in step.spans] == [("short", 1), ("prompt", 7)]
    assert step.pieces == {"prompt"}
    scheduler.end(step, 0.0, 1.0)
    assert scheduler.gather.some_go_on
