"""When a running stream moves to another pool: what it must know, what that may cost, how often."""

import math
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.speculation.estimates.counts import PoolCounts
from orchestrator.speculation.estimates.measurements import (
    BENCH_PROBE_TOKENS,
    BENCH_STREAMS,
    DraftMeasurements,
    TargetMeasurements,
)
from orchestrator.speculation.pacing.adaptive_pacer import AdaptivePacer
from orchestrator.speculation.pacing.pacer import FixedPacer, RestingPacer
from orchestrator.speculation.pacing.pool_pacer import PoolPacer
from orchestrator.speculation.pool_choice import MOVE_TOKENS, Holding, PoolCandidate, PoolChoice
from paceline.protocol.status import Speedup
from paceline_tools.simulation.run import simulate
from paceline_tools.simulation.world import World

LONG = 100_000
IDLE = Holding(0, MOVE_TOKENS, MOVE_TOKENS, False, 0.025, LONG, 1000)
"""A stream that made nothing of its pool for as long as that takes, and is far from its end."""
BUSY = replace(IDLE, tokens=LONG, idle_tokens=0)
"""One that speculates."""


def known(
    name: str, value: float, half: float = 0.1, token_seconds: float | None = None
) -> PoolCandidate:
    return PoolCandidate(
        name, Speedup(value, value - half, value + half), token_seconds=token_seconds
    )


def move(holding: Holding, *candidates: PoolCandidate) -> str | None:
    """Where a stream goes that has pool a."""
    return PoolChoice().move("a", holding, candidates)


@pytest.mark.parametrize("benched", [False, True])
@pytest.mark.parametrize("other", [PoolCandidate("b"), known("b", 1.2)])
def test_a_stream_leaves_a_pool_it_made_nothing_of(benched: bool, other: PoolCandidate) -> None:
    assert move(IDLE, PoolCandidate("a", benched=benched), other) == "b"
    assert move(replace(IDLE, idle_tokens=MOVE_TOKENS - 1), PoolCandidate("a"), other) is None


def test_of_several_it_gets_the_one_that_new_streams_would_get() -> None:
    assert move(IDLE, PoolCandidate("a"), known("b", 1.2), known("c", 1.5)) == "c"


@pytest.mark.parametrize("other", [known("b", 1.0), PoolCandidate("b", benched=True)])
def test_it_stays_where_no_other_pool_pays(other: PoolCandidate) -> None:
    assert move(IDLE, PoolCandidate("a", benched=True), other) is None
    assert move(IDLE, PoolCandidate("a", benched=True)) is None


def test_a_stream_that_speculates_keeps_what_others_gave_up() -> None:
    assert move(BUSY, PoolCandidate("a", benched=True), known("b", 1.5)) is None


def test_a_stream_that_speculates_moves_only_to_what_surely_is_better() -> None:
    assert move(BUSY, known("a", 1.2), known("b", 1.5)) == "b"
    assert move(BUSY, known("a", 1.2), known("b", 1.29)) is None
    assert move(BUSY, known("a", 1.2, half=0.4), known("b", 1.5)) is None
    assert move(BUSY, PoolCandidate("a"), known("b", 1.5)) is None
    assert move(BUSY, known("a", 1.2), PoolCandidate("b")) is None


def test_a_stream_that_tries_a_benched_pool_is_left_to_it() -> None:
    assert (
        move(replace(IDLE, probes=True), PoolCandidate("a", benched=True), known("b", 1.5)) is None
    )


def test_a_stream_that_nears_its_end_stays() -> None:
    assert move(replace(IDLE, remaining=MOVE_TOKENS), PoolCandidate("a"), known("b", 1.5)) == "b"
    assert (
        move(replace(IDLE, remaining=MOVE_TOKENS - 1), PoolCandidate("a"), known("b", 1.5)) is None
    )


def test_a_move_must_save_more_than_reading_all_once_more_takes() -> None:
    remaining, decode_step = 1000, 0.025
    saved = remaining * decode_step * (1 - 1 / 1.5)
    holding = replace(IDLE, remaining=remaining, decode_step_seconds=decode_step)
    for share, expected in ((0.99, "b"), (1.01, None)):
        other = known("b", 1.5, token_seconds=share * saved / holding.read_tokens)
        assert move(holding, PoolCandidate("a"), other) == expected


speedups = st.none() | st.builds(
    lambda value, half: Speedup(value, value - half, value + half),
    st.floats(0.5, 3.0),
    st.floats(0.0, 0.5),
)
pools = st.tuples(
    *(st.builds(PoolCandidate, st.just(name), speedups, st.booleans()) for name in ("a", "b", "c"))
)


@given(st.lists(st.tuples(pools, st.booleans()), max_size=60))
def test_whatever_is_learned_the_moves_of_a_stream_are_few(
    looks: list[tuple[tuple[PoolCandidate, ...], bool]],
) -> None:
    """It looks every 64 tokens, each time at pools that turned out otherwise."""
    selection, held = PoolChoice(), "a"
    moves = since = 0
    for candidates, idle in looks:
        since += 64
        holding = Holding(moves, since, since if idle else 0, False, None, LONG, 1000)
        wanted = selection.move(held, holding, candidates)
        if wanted is not None:
            assert wanted != held
            held, moves, since = wanted, moves + 1, 0
    assert moves <= math.log2(64 * len(looks) / MOVE_TOKENS + 1)


def with_pool(
    acceptance: float, tokens: int, measurements: DraftMeasurements | None = None
) -> PoolPacer:
    """The pacer of a stream that has made so many tokens with a pool."""
    measurements = measurements or DraftMeasurements()
    pacer = PoolPacer(lambda one: AdaptivePacer(one, 16, 1.0), DraftMeasurements(), PoolCounts())
    pacer.use(measurements, PoolCounts())
    simulate(World(0.025, 0.0025, 0.0005, lambda _: acceptance), pacer, measurements, tokens)
    return pacer


@pytest.mark.parametrize(("acceptance", "idle"), [(0.0, True), (0.5, False), (0.9, False)])
def test_a_stream_is_idle_with_a_draft_that_is_never_right(acceptance: float, idle: bool) -> None:
    holding = with_pool(acceptance, 3 * MOVE_TOKENS).holding(LONG, 1000)
    assert holding.idle is idle
    assert holding.tokens == 3 * MOVE_TOKENS
    assert holding.moves == 0
    assert holding.decode_step_seconds == pytest.approx(0.025, rel=0.1)


def test_with_another_pool_a_stream_begins_anew_and_the_move_counts() -> None:
    pacer = with_pool(0.0, 3 * MOVE_TOKENS)
    pacer.use(DraftMeasurements(), PoolCounts())
    holding = pacer.holding(LONG, 1000)
    assert (holding.moves, holding.tokens, holding.idle_tokens) == (1, 0, 0)


def test_a_stream_that_must_speculate_is_never_idle() -> None:
    def forced(_: DraftMeasurements) -> RestingPacer:
        return FixedPacer(4, 30.0)

    measurements = DraftMeasurements()
    pacer = PoolPacer(forced, DraftMeasurements(), PoolCounts())
    pacer.use(measurements, PoolCounts())
    simulate(World(0.025, 0.0025, 0.0005, lambda _: 0.0), pacer, measurements, 3 * MOVE_TOKENS)
    assert not pacer.holding(LONG, 1000).idle


def test_the_stream_that_probes_says_so_until_it_has_decided() -> None:
    measurements = DraftMeasurements(TargetMeasurements())
    for _ in range(BENCH_STREAMS):
        measurements.observe_outcome(given_up=True)
    measurements.count(BENCH_PROBE_TOKENS)
    pacer = PoolPacer(lambda one: AdaptivePacer(one, 16, 1.0), DraftMeasurements(), PoolCounts())
    pacer.use(measurements, PoolCounts())
    assert pacer.holding(LONG, 1000).probes
    simulate(World(0.025, 0.0025, 0.0005, lambda _: 0.0), pacer, measurements, 3 * MOVE_TOKENS)
    assert not pacer.holding(LONG, 1000).probes
