"""Which pool a stream gets: preference while nothing is known, then gain; bounded exploration."""

import random
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from orchestrator.speculation.adaptive_pacer import AdaptivePacer
from orchestrator.speculation.counts import Tally
from orchestrator.speculation.measurements import (
    BENCH_PROBE_TOKENS,
    BENCH_STREAMS,
    DraftRecord,
    TargetRecord,
)
from orchestrator.speculation.pool_choice import EXPLORE_STREAMS, Candidate, Selection, standing
from orchestrator.speculation.pool_pacer import PoolPacer
from paceline.protocol.status import Gain, PoolState
from paceline_tools.simulation.single import World, simulate

NAMES = ("a", "b", "c")


def known(name: str, value: float, half: float = 0.1) -> Candidate:
    return Candidate(name, Gain(value, value - half, value + half))


def choices(selection: Selection, candidates: list[Candidate], count: int) -> list[str | None]:
    chosen = []
    for _ in range(count):
        chosen.append(selection.choose(candidates))
        selection.given()
    return chosen


def test_the_preferred_pool_is_taken_while_nothing_is_known() -> None:
    candidates = [Candidate(name) for name in NAMES]
    assert choices(Selection(), candidates, 100) == ["a"] * 100


def test_without_a_pool_there_is_none() -> None:
    assert Selection().choose([]) is None


def test_one_pool_is_never_explored_beside() -> None:
    assert choices(Selection(), [known("a", 0.9)], 50) == ["a"] * 50


def test_one_stream_in_so_many_explores_what_is_unknown_in_turn() -> None:
    candidates = [known("a", 1.5), Candidate("b"), Candidate("c")]
    chosen = choices(Selection(), candidates, 4 * EXPLORE_STREAMS)
    explored = [name for name in chosen if name != "a"]
    assert explored == ["b", "c", "b", "c"]


def test_a_pool_that_surely_is_worse_is_not_explored() -> None:
    candidates = [known("a", 1.5), known("b", 1.2)]
    assert choices(Selection(), candidates, 100) == ["a"] * 100


def test_a_pool_that_surely_is_better_is_taken_and_one_that_may_be_is_explored() -> None:
    selection = Selection()
    assert choices(selection, [Candidate("a"), Candidate("b")], 1) == ["a"]
    maybe = [known("a", 1.5), known("b", 1.55)]
    assert choices(selection, maybe, 100).count("b") == 100 // EXPLORE_STREAMS
    surely = [known("a", 1.5), known("b", 1.65)]
    assert choices(selection, surely, 100) == ["b"] * 100


def test_a_pool_that_surely_does_not_pay_gives_way_to_an_unknown_one() -> None:
    selection = Selection()
    assert choices(selection, [Candidate("a"), Candidate("b")], 1) == ["a"]
    assert choices(selection, [known("a", 0.95), Candidate("b")], 1) == ["a"]
    assert choices(selection, [known("a", 0.85), Candidate("b")], 1) == ["b"]


def test_choice_does_not_flap_between_equals() -> None:
    selection = Selection()
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
    selection = Selection()
    a, b = known("a", 1.5), known("b", 1.5)
    assert choices(selection, [a, b], 2) == ["a", "a"]
    assert choices(selection, [b], 3) == ["b"] * 3
    assert choices(selection, [a, b], 3) == ["a"] * 3


def test_a_model_that_is_new_and_unknown_does_not_take_the_place_of_one_that_pays() -> None:
    selection = Selection()
    assert choices(selection, [known("a", 1.5), known("b", 1.4)], 1) == ["a"]
    chosen = choices(selection, [Candidate("a"), known("b", 1.4)], 40)
    assert chosen.count("a") == 40 // EXPLORE_STREAMS


def test_where_all_are_benched_a_stream_gets_the_one_that_may_be_tried() -> None:
    waiting = Candidate("a", benched=True, tokens_to_probe=10)
    due = Candidate("b", benched=True)
    assert choices(Selection(), [waiting, due], 1) == ["b"]
    assert choices(Selection(), [waiting, replace(due, tokens_to_probe=1)], 1) == ["a"]


@pytest.mark.parametrize(
    ("candidate", "state", "words"),
    [
        (known("a", 1.5), PoolState.IN_USE, "new streams get"),
        (known("b", 1.2), PoolState.STANDBY, "a gains more"),
        (Candidate("b"), PoolState.STANDBY, "may be better than a: at most 1 in 20"),
        (Candidate("b", benched=True, tokens_to_probe=7), PoolState.BENCHED, "7 more tokens"),
        (Candidate("b", benched=True, probing=True), PoolState.PROBING, "tries it again"),
    ],
)
def test_each_standing_says_why(candidate: Candidate, state: PoolState, words: str) -> None:
    found, reason = standing(candidate, known("a", 1.5))
    assert found is state
    assert words in reason


gains = st.none() | st.builds(
    lambda value, half: Gain(value, value - half, value + half),
    st.floats(0.5, 3.0),
    st.floats(0.0, 0.5),
)
candidates_of = st.fixed_dictionaries(
    {
        name: st.builds(
            Candidate,
            name=st.just(name),
            gain=gains,
            benched=st.booleans(),
            tokens_to_probe=st.sampled_from((0, 5)),
        )
        for name in NAMES
    }
)


class Selecting(RuleBasedStateMachine):
    """Streams come, pools come and go, are benched and measured anew, in any order."""

    @initialize(pools=candidates_of)
    def begin(self, pools: dict[str, Candidate]) -> None:
        self.selection = Selection()
        self.pools = pools
        self.there = set(NAMES)
        self.since_explored: int | None = None
        self.streams = self.explored = 0

    @rule(pools=candidates_of)
    def learn(self, pools: dict[str, Candidate]) -> None:
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
        if all(one.gain is None and not one.benched for one in candidates):
            assert chosen == candidates[0].name
        if best is None:
            assert all(one.benched for one in candidates)
        elif chosen != best.name:
            self.explored += 1
            if found.benched:
                assert found.tokens_to_probe == 0
            else:
                assert best.gain is not None
                assert found.gain is None or found.gain.high > best.gain.value

    @invariant()
    def exploration_is_bounded(self) -> None:
        assert self.explored <= self.streams / EXPLORE_STREAMS


TestSelecting = Selecting.TestCase


@given(st.permutations(NAMES), st.sampled_from(NAMES))
def test_the_pool_that_is_best_wins_in_the_end_whatever_the_preference(
    order: list[str], winner: str
) -> None:
    """Each stream's gain scatters; what is known of a pool comes of the streams it got."""
    chance = random.Random(f"{order}{winner}")
    true_gain = {name: 1.6 if name == winner else 1.2 for name in NAMES}
    records = {name: DraftRecord() for name in NAMES}
    selection = Selection()
    chosen = []
    for _ in range(400):
        name = selection.choose([Candidate(one, records[one].gain) for one in order])
        assert name is not None
        selection.given()
        chosen.append(name)
        for _ in range(4):
            records[name].gains.observe(100 * true_gain[name] * chance.uniform(0.8, 1.2), 100)
    assert chosen.count(order[0]) > 0
    assert chosen[-100:].count(winner) >= 95


STEP = 0.025


def world(acceptance: float, seed: int = 0) -> World:
    return World(STEP, 0.0025, 0.0005, lambda _: acceptance, seed=seed)


class Pools:
    """Streams one after the other, in virtual time, over pools with these acceptances."""

    def __init__(self, acceptance: dict[str, float]) -> None:
        self.acceptance = acceptance
        self.target = TargetRecord()
        self.records = {name: DraftRecord(self.target) for name in acceptance}
        self.tallies = {name: Tally() for name in acceptance}
        self.selection = Selection()

    def stream(self, tokens: int) -> tuple[str, int]:
        """The pool it got, and how many draft tokens were verified."""
        candidates = [
            Candidate(name, one.gain, one.benched, one.probing, one.tokens_to_probe)
            for name, one in self.records.items()
        ]
        name = self.selection.choose(candidates)
        assert name is not None
        self.selection.given()
        record = self.records[name]
        pacer = PoolPacer(
            lambda one: AdaptivePacer(one, 16, 1.0), DraftRecord(self.target), Tally()
        )
        pacer.use(record, self.tallies[name])
        outcome = simulate(world(self.acceptance[name], self.target.tokens), pacer, record, tokens)
        pacer.end()
        return name, sum(outcome.lengths)


@pytest.mark.parametrize("tokens", [100, 400])
def test_a_bad_pool_is_benched_and_found_again_within_the_bound_when_it_is_better(
    tokens: int,
) -> None:
    pools = Pools({"first": 0.0, "other": 0.5})
    chosen = [pools.stream(tokens)[0] for _ in range(40)]
    assert chosen[:BENCH_STREAMS] == ["first"] * BENCH_STREAMS
    assert chosen[BENCH_STREAMS:].count("first") <= 40 / EXPLORE_STREAMS
    assert pools.records["first"].benched
    pools.acceptance["first"] = 0.95
    bound = EXPLORE_STREAMS + BENCH_PROBE_TOKENS // tokens + 1
    after = [pools.stream(tokens) for _ in range(bound)]
    assert any(name == "first" and verified > tokens / 4 for name, verified in after)
    assert not pools.records["first"].benched
    latest: list[str] = []
    while latest.count("first") <= EXPLORE_STREAMS / 2:
        latest = [*latest, pools.stream(tokens)[0]][-EXPLORE_STREAMS:]
        assert pools.target.tokens < 50 * BENCH_PROBE_TOKENS + 40 * EXPLORE_STREAMS * tokens


def test_a_single_pool_that_was_benched_is_back_within_the_bound() -> None:
    pools = Pools({"draft": 0.0})
    for _ in range(BENCH_STREAMS):
        pools.stream(100)
    assert pools.records["draft"].benched
    pools.acceptance["draft"] = 0.9
    streams = BENCH_PROBE_TOKENS // 100 + 2
    for _ in range(streams):
        pools.stream(100)
    assert not pools.records["draft"].benched
    assert pools.stream(100)[1] > 50


def test_the_gain_is_that_of_the_streams_and_its_interval_holds_it() -> None:
    pools = Pools({"draft": 0.8})
    for _ in range(30):
        pools.stream(300)
    gain = pools.records["draft"].gain
    assert gain is not None
    assert gain.low < gain.value < gain.high
    assert 1.9 < gain.value < 3.5
    assert gain.high - gain.low < 0.5
    pools.target.tokens += 65536
    doubted = pools.records["draft"].gain
    assert doubted is not None
    assert doubted.high - gain.high == pytest.approx(1.0, abs=0.01)


def test_the_interval_of_a_gain_holds_the_truth_about_as_often_as_it_says() -> None:
    chance = random.Random(2)
    held = 0
    for _ in range(400):
        record = DraftRecord()
        for _ in range(chance.randint(4, 40)):
            plain = chance.uniform(20, 60)
            record.gains.observe(plain * 1.4 * chance.gauss(1, 0.15), plain)
        gain = record.gain
        assert gain is not None
        held += gain.low <= 1.4 <= gain.high
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
    assert not pools.records["first"].benched
