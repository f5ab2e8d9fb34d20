"""Which pool a stream gets: by preference, then by speed-up; exploration is bounded."""

import random
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from orchestrator.speculation.estimates.counts import PoolCounts
from orchestrator.speculation.estimates.measurements import (
    BENCH_PROBE_TOKENS,
    BENCH_STREAMS,
    DraftMeasurements,
    TargetMeasurements,
)
from orchestrator.speculation.pacing.adaptive_pacer import AdaptivePacer
from orchestrator.speculation.pacing.pool_pacer import PoolPacer
from orchestrator.speculation.pool_choice import (
    EXPLORE_STREAMS,
    PoolCandidate,
    PoolChoice,
    standing,
)
from paceline.protocol.status import PoolState, Speedup
from paceline_tools.simulation.run import simulate
from paceline_tools.simulation.world import World
from tests.marks import slow

NAMES = ("a", "b", "c")


def known(name: str, value: float, half: float = 0.1) -> PoolCandidate:
    return PoolCandidate(name, Speedup(value, value - half, value + half))


def choices(selection: PoolChoice, candidates: list[PoolCandidate], count: int) -> list[str | None]:
    chosen = []
    for _ in range(count):
        chosen.append(selection.choose(candidates))
        selection.given()
    return chosen


def test_the_preferred_pool_is_taken_while_nothing_is_known() -> None:
    candidates = [PoolCandidate(name) for name in NAMES]
    assert choices(PoolChoice(), candidates, 100) == ["a"] * 100


def test_without_a_pool_there_is_none() -> None:
    assert PoolChoice().choose([]) is None


def test_one_pool_is_never_explored_beside() -> None:
    assert choices(PoolChoice(), [known("a", 0.9)], 50) == ["a"] * 50


def test_one_stream_in_so_many_explores_what_is_unknown_in_turn() -> None:
    candidates = [known("a", 1.5), PoolCandidate("b"), PoolCandidate("c")]
    chosen = choices(PoolChoice(), candidates, 4 * EXPLORE_STREAMS)
    explored = [name for name in chosen if name != "a"]
    assert explored == ["b", "c", "b", "c"]


def test_a_pool_that_apart_is_worse_is_not_explored() -> None:
    candidates = [known("a", 1.5), known("b", 1.2)]
    assert choices(PoolChoice(), candidates, 100) == ["a"] * 100


def test_a_pool_that_apart_is_better_is_taken_and_one_that_may_be_is_explored() -> None:
    selection = PoolChoice()
    assert choices(selection, [PoolCandidate("a"), PoolCandidate("b")], 1) == ["a"]
    maybe = [known("a", 1.5), known("b", 1.55)]
    assert choices(selection, maybe, 100).count("b") == 100 // EXPLORE_STREAMS
    apart = [known("a", 1.5), known("b", 1.65)]
    assert choices(selection, apart, 100) == ["b"] * 100


def test_a_pool_that_apart_does_not_pay_gives_way_to_an_unknown_one() -> None:
    selection = PoolChoice()
    assert choices(selection, [PoolCandidate("a"), PoolCandidate("b")], 1) == ["a"]
    assert choices(selection, [known("a", 0.95), PoolCandidate("b")], 1) == ["a"]
    assert choices(selection, [known("a", 0.85), PoolCandidate("b")], 1) == ["b"]


def test_choice_does_not_flap_between_equals() -> None:
    selection = PoolChoice()
    chance = random.Random(1)
    held = []
    for _ in range(200):
        candidates = [known(name, 1.5 + chance.uniform(-0.05, 0.05)) for name in ("a", "b")]
        best = selection.best(candidates)
        assert best is not None
        selection.choose(candidates)
        selection.given()
        held.append(best.name)
    assert len(set(held)) == 1


def test_the_best_pool_is_not_forgotten_while_it_cannot_be_reached() -> None:
    selection = PoolChoice()
    a, b = known("a", 1.5), known("b", 1.5)
    assert choices(selection, [a, b], 2) == ["a", "a"]
    assert choices(selection, [b], 3) == ["b"] * 3
    assert choices(selection, [a, b], 3) == ["a"] * 3


def test_a_model_that_is_new_and_unknown_does_not_take_the_place_of_one_that_pays() -> None:
    selection = PoolChoice()
    assert choices(selection, [known("a", 1.5), known("b", 1.4)], 1) == ["a"]
    chosen = choices(selection, [PoolCandidate("a"), known("b", 1.4)], 40)
    assert chosen.count("a") == 40 // EXPLORE_STREAMS


def test_where_all_are_benched_a_stream_gets_the_one_that_may_be_tried() -> None:
    waiting = PoolCandidate("a", benched=True, tokens_to_probe=10)
    due = PoolCandidate("b", benched=True)
    assert choices(PoolChoice(), [waiting, due], 1) == ["b"]
    assert choices(PoolChoice(), [waiting, replace(due, tokens_to_probe=1)], 1) == ["a"]


@pytest.mark.parametrize(
    ("candidate", "state", "words"),
    [
        (known("a", 1.5), PoolState.IN_USE, "new streams get"),
        (known("b", 1.2), PoolState.STANDBY, "a has a higher speed-up"),
        (PoolCandidate("b"), PoolState.STANDBY, "may be better than a: at most 1 in 20"),
        (PoolCandidate("b", benched=True, tokens_to_probe=7), PoolState.BENCHED, "7 more tokens"),
        (PoolCandidate("b", benched=True, probing=True), PoolState.PROBING, "tries it again"),
    ],
)
def test_each_standing_says_why(candidate: PoolCandidate, state: PoolState, words: str) -> None:
    found, reason = standing(candidate, known("a", 1.5))
    assert found is state
    assert words in reason


speedups = st.none() | st.builds(
    lambda value, half: Speedup(value, value - half, value + half),
    st.floats(0.5, 3.0),
    st.floats(0.0, 0.5),
)
candidates_of = st.fixed_dictionaries(
    {
        name: st.builds(
            PoolCandidate,
            name=st.just(name),
            speedup=speedups,
            benched=st.booleans(),
            tokens_to_probe=st.sampled_from((0, 5)),
        )
        for name in NAMES
    }
)


class Selecting(RuleBasedStateMachine):
    """Streams come, pools come and go, are benched and measured anew, in any order."""

    @initialize(pools=candidates_of)
    def begin(self, pools: dict[str, PoolCandidate]) -> None:
        self.selection = PoolChoice()
        self.pools = pools
        self.there = set(NAMES)
        self.since_explored: int | None = None
        self.streams = self.explored = 0

    @rule(pools=candidates_of)
    def learn(self, pools: dict[str, PoolCandidate]) -> None:
        self.pools = pools

    @rule(name=st.sampled_from(NAMES))
    def come_or_go(self, name: str) -> None:
        self.there ^= {name}

    @rule(count=st.integers(1, 2 * EXPLORE_STREAMS))
    def streams_come(self, count: int) -> None:
        for _ in range(count):
            self._stream()

    def _stream(self) -> None:
        candidates = [self.pools[name] for name in NAMES if name in self.there]
        best = self.selection.best(candidates)
        chosen = self.selection.choose(candidates)
        assert (chosen is None) == (not candidates)
        if chosen is None:
            return
        self.selection.given()
        self.streams += 1
        found = self.pools[chosen]
        assert chosen in self.there
        if all(one.speedup is None and not one.benched for one in candidates):
            assert chosen == candidates[0].name
        if best is None:
            assert all(one.benched for one in candidates)
        elif chosen != best.name:
            self.explored += 1
            if found.benched:
                assert found.tokens_to_probe == 0
            else:
                assert best.speedup is not None
                assert found.speedup is None or found.speedup.high > best.speedup.value

    @invariant()
    def exploration_is_bounded(self) -> None:
        assert self.explored <= self.streams / EXPLORE_STREAMS


TestSelecting = Selecting.TestCase


@given(st.permutations(NAMES), st.sampled_from(NAMES))
def test_the_pool_that_is_best_wins_in_the_end_whatever_the_preference(
    order: list[str], winner: str
) -> None:
    """Each stream's speed-up scatters; what is known of a pool comes of the streams it got."""
    chance = random.Random(f"{order}{winner}")
    true_speedup = {name: 1.6 if name == winner else 1.2 for name in NAMES}
    measurements_of = {name: DraftMeasurements() for name in NAMES}
    selection = PoolChoice()
    chosen = []
    for _ in range(400):
        name = selection.choose([PoolCandidate(one, measurements_of[one].speedup) for one in order])
        assert name is not None
        selection.given()
        chosen.append(name)
        for _ in range(4):
            measurements_of[name].speedups.observe(
                100 * true_speedup[name] * chance.uniform(0.8, 1.2), 100
            )
    assert chosen.count(order[0]) > 0
    assert chosen[-100:].count(winner) >= 95


STEP = 0.025


def world(acceptance: float, seed: int = 0) -> World:
    return World(STEP, 0.0025, 0.0005, lambda _: acceptance, seed=seed)


class Pools:
    """Streams one after the other, in virtual time, over pools with these acceptances."""

    def __init__(self, acceptance: dict[str, float]) -> None:
        self.acceptance = acceptance
        self.target = TargetMeasurements()
        self.measurements_of = {name: DraftMeasurements(self.target) for name in acceptance}
        self.all_counts = {name: PoolCounts() for name in acceptance}
        self.selection = PoolChoice()

    def stream(self, tokens: int) -> tuple[str, int]:
        """The pool it got, and how many draft tokens were verified."""
        candidates = [
            PoolCandidate(name, one.speedup, one.benched, one.probing, one.tokens_to_probe)
            for name, one in self.measurements_of.items()
        ]
        name = self.selection.choose(candidates)
        assert name is not None
        self.selection.given()
        measurements = self.measurements_of[name]
        pacer = PoolPacer(
            lambda one: AdaptivePacer(one, 16, 1.0), DraftMeasurements(self.target), PoolCounts()
        )
        pacer.use(measurements, self.all_counts[name])
        outcome = simulate(
            world(self.acceptance[name], self.target.tokens), pacer, measurements, tokens
        )
        pacer.end()
        return name, sum(outcome.lengths)


@pytest.mark.parametrize("tokens", [100, *slow(400)])
def test_a_bad_pool_is_benched_and_found_again_within_the_bound_when_it_is_better(
    tokens: int,
) -> None:
    pools = Pools({"first": 0.0, "other": 0.5})
    chosen = [pools.stream(tokens)[0] for _ in range(40)]
    assert chosen[:BENCH_STREAMS] == ["first"] * BENCH_STREAMS
    assert chosen[BENCH_STREAMS:].count("first") <= 40 / EXPLORE_STREAMS
    assert pools.measurements_of["first"].benched
    pools.acceptance["first"] = 0.95
    bound = EXPLORE_STREAMS + BENCH_PROBE_TOKENS // tokens + 1
    after = [pools.stream(tokens) for _ in range(bound)]
    assert any(name == "first" and verified > tokens / 4 for name, verified in after)
    assert not pools.measurements_of["first"].benched
    latest: list[str] = []
    while latest.count("first") <= EXPLORE_STREAMS / 2:
        latest = [*latest, pools.stream(tokens)[0]][-EXPLORE_STREAMS:]
        assert pools.target.tokens < 50 * BENCH_PROBE_TOKENS + 40 * EXPLORE_STREAMS * tokens


def test_a_single_pool_that_was_benched_is_back_within_the_bound() -> None:
    pools = Pools({"draft": 0.0})
    for _ in range(BENCH_STREAMS):
        pools.stream(100)
    assert pools.measurements_of["draft"].benched
    pools.acceptance["draft"] = 0.9
    streams = BENCH_PROBE_TOKENS // 100 + 2
    for _ in range(streams):
        pools.stream(100)
    assert not pools.measurements_of["draft"].benched
    assert pools.stream(100)[1] > 50


def test_the_speedup_is_that_of_the_streams_and_its_interval_holds_it() -> None:
    pools = Pools({"draft": 0.8})
    for _ in range(30):
        pools.stream(300)
    speedup = pools.measurements_of["draft"].speedup
    assert speedup is not None
    assert speedup.low < speedup.value < speedup.high
    assert 1.9 < speedup.value < 3.5
    assert speedup.high - speedup.low < 0.5
    pools.target.tokens += 65536
    doubted = pools.measurements_of["draft"].speedup
    assert doubted is not None
    assert doubted.high - speedup.high == pytest.approx(1.0, abs=0.01)


def test_the_interval_of_a_speedup_holds_the_truth_about_as_often_as_it_says() -> None:
    chance = random.Random(2)
    held = 0
    for _ in range(400):
        measurements = DraftMeasurements()
        for _ in range(chance.randint(4, 40)):
            alone = chance.uniform(20, 60)
            measurements.speedups.observe(alone * 1.4 * chance.gauss(1, 0.15), alone)
        speedup = measurements.speedup
        assert speedup is not None
        held += speedup.low <= 1.4 <= speedup.high
    assert 0.91 < held / 400 < 0.99


def test_a_pool_that_turns_bad_is_left_for_the_other() -> None:
    pools = Pools({"first": 0.9, "other": 0.7})
    assert [pools.stream(200)[0] for _ in range(5)] == ["first"] * 5
    pools.acceptance["first"] = 0.0
    chosen = [pools.stream(200)[0] for _ in range(10)]
    assert chosen[-7:] == ["other"] * 7


def test_a_pool_that_pays_less_than_another_is_left_once_that_is_sure() -> None:
    pools = Pools({"first": 0.4, "other": 0.9})
    chosen = [pools.stream(200)[0] for _ in range(5 * EXPLORE_STREAMS)]
    assert "first" in chosen
    assert chosen[-10:] == ["other"] * 10
    assert not pools.measurements_of["first"].benched
