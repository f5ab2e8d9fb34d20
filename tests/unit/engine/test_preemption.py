"""Streams lose their KV to others, at any moment, and nobody sees it: the tokens are the same."""

import random
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from paceline.engine.core.waiting import WaitingLimits
from paceline.engine.interfaces import Runner
from paceline.engine.torch.exactness.operators import BatchInvariantOperators
from paceline.engine.torch.loading import load_model
from paceline.engine.torch.padding import batch_invariant
from paceline.engine.torch.runner import ModelRunner
from paceline.engine.worker import EngineWorker
from paceline.errors import PacelineError, ResourceExhausted
from paceline.protocol.proposal import Proposal
from paceline.protocol.sampling import SamplingParams
from paceline.protocol.session import Opening
from paceline.protocol.token_path import TokenPath
from paceline.protocol.verdict import PromptLogprobs, Verdict, Verify
from target_server.verification import Verification
from tests.table_model import TableRunner, decode_alone
from tests.tiny_models import tiny_model
from tests.unit.engine.test_worker import Watching

VOCABULARY = 8
PAGES = 6
LIMITS = WaitingLimits(sessions=100, seconds=1e6)


class Asking:
    """A stream as an orchestrator has it: when nothing is owed it asks, with some draft tokens."""

    def __init__(self, engine: EngineWorker, opening: Opening, *, spare: bool = False) -> None:
        self.path = TokenPath(opening.prompt_token_ids)
        self.prompt = len(self.path)
        self.owed = 0
        self.error: PacelineError | None = None
        self.pieces: list[PromptLogprobs] = []
        self.waited = 0.0
        most = engine.max_block_tokens
        self.verification = Verification(opening, self.take, max_block_tokens=most, branches=True)
        self.branches_taken = 0
        self.session = engine.open(
            self.verification,
            opening.prompt_token_ids,
            opening.max_length,
            salt=None if opening.prompt_logprobs is not None else "",
            priority=opening.priority,
            spare=spare,
        )

    @property
    def output(self) -> tuple[int, ...]:
        return tuple(self.path.tokens[self.prompt :])

    @property
    def over(self) -> bool:
        return self.verification.finished or self.error is not None

    def take(self, item: Verdict | PromptLogprobs | PacelineError) -> None:
        if isinstance(item, Verdict):
            self.owed = max(0, self.owed - 1)
            self.path.extend(item.token_ids)
            self.waited += item.waited_seconds
            self.branches_taken += item.branch_accepted > 1
        elif isinstance(item, PromptLogprobs):
            self.pieces.append(item)
        else:
            self.error = item

    def ask(
        self, draft: Sequence[int], steps: int, fork: int = 0, other: Sequence[int] = ()
    ) -> None:
        """fork: offset in the draft tokens of a branch, `other`; two more are of no use."""
        proposal = Proposal(len(self.path), self.path.digest, tuple(draft))
        at = TokenPath((*self.path.tokens, *draft[:fork]))
        branches = [Proposal(len(at), at.digest ^ spoilt, tuple(other)) for spoilt in (1, 0)]
        branches.append(Proposal(len(self.path), self.path.digest, (VOCABULARY - 1,) * 5))
        self.verification.ask(Verify(proposal if draft else None, steps, tuple(branches)))
        self.owed = 1 + steps


def run(
    engine: EngineWorker,
    openings: Sequence[Opening],
    expected: Sequence[tuple[int, ...]],
    chance: random.Random,
    *,
    speculates: bool,
) -> list[Asking]:
    """Open them one after the other, and step until all are over."""
    streams: list[Asking] = []
    while len(streams) < len(openings) or not all(one.over for one in streams):
        if len(streams) < len(openings) and chance.random() < 0.5:
            streams.append(Asking(engine, openings[len(streams)]))
        for stream, whole in zip(streams, expected, strict=False):
            if not stream.owed and not stream.over and chance.random() < 0.8:
                right = whole[len(stream.output) :][: chance.randrange(4)]
                wrong = [chance.randrange(VOCABULARY) for _ in range(chance.randrange(3))]
                other = whole[len(stream.output) + len(right) :][: chance.randrange(9)]
                draft = [*right, *wrong] if speculates else []
                stream.ask(draft, chance.randrange(3), len(right), other)
        engine._step()
        admission = engine._admission
        assert admission.pages_used == sum(one.claim.pages for one in admission.sessions)
        for session in admission.sessions:
            assert session.cached_tokens <= session.claim.pages * engine.kv.page_tokens
        for one in streams:
            if one.over:
                engine.close(one.session)
    engine._step()
    assert (engine.load.kv_pages_used, engine.load.sessions, engine.load.waiting) == (0, 0, 0)
    return streams


def worker(runner: Runner, pages: int, watching: Watching) -> EngineWorker:
    return EngineWorker(
        runner, max_batched_tokens=64, kv_pages=pages, waiting=LIMITS, watcher=watching
    )


def opening(chance: random.Random, index: int) -> Opening:
    prompt = tuple(chance.randrange(VOCABULARY) for _ in range(chance.randrange(1, 30)))
    return Opening(
        request_id=str(index),
        prompt_token_ids=prompt,
        sampling=SamplingParams(temperature=chance.choice([0.0, 1.0]), repetition_penalty=1.2),
        seed=index,
        max_tokens=chance.randrange(1, 16 * PAGES - len(prompt)),
        priority=chance.choice([0, 0, 1]),
        prompt_logprobs=chance.choice([None, None, 2]),
    )


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 2**32), speculates=st.booleans())
def test_every_output_is_that_of_a_stream_that_is_alone(seed: int, speculates: bool) -> None:
    chance = random.Random(seed)
    runner = TableRunner(VOCABULARY)
    openings = [opening(chance, index) for index in range(8)]
    expected = [decode_alone(runner, one) for one in openings]
    engine = worker(runner, PAGES, Watching())
    streams = run(engine, openings, expected, chance, speculates=speculates)
    assert [one.output for one in streams] == expected
    for stream, one in zip(streams, openings, strict=True):
        if one.prompt_logprobs is not None:
            told = [1 + index for index in range(stream.prompt - 1)]
            assert [
                piece.position + index
                for piece in stream.pieces
                for index in range(len(piece.tokens))
            ] == told


def tiny_runner(folder: Path) -> ModelRunner:
    path = tiny_model(folder, dtype="float32")
    loaded = load_model(path, torch.float32, operators=BatchInvariantOperators(64))
    padding = batch_invariant(torch.float32, 64)
    runner = ModelRunner(loaded.forward, loaded.device, padding, loaded.rope_length.of)
    runner.page_tokens = 16  # its caches stay as they are
    return runner


@pytest.mark.parametrize("speculates", [False, True])
def test_a_real_model_gives_the_same_tokens_with_kv_for_a_few_streams_and_for_all(
    tmp_path: Path, speculates: bool
) -> None:
    runner, chance = tiny_runner(tmp_path), random.Random(7)
    openings = [opening(chance, index) for index in range(12)]
    many, few = Watching(), Watching()
    nothing: list[tuple[int, ...]] = [()] * len(openings)
    undisturbed = run(worker(runner, 200, many), openings, nothing, chance, speculates=False)
    expected = [one.output for one in undisturbed]
    streams = run(worker(runner, PAGES, few), openings, expected, chance, speculates=speculates)
    assert [one.output for one in streams] == expected
    assert many.preemptions == 0
    assert few.preemptions > 1
    assert max(one.waited for one in streams) > 0.0
    assert speculates == any(one.branches_taken for one in streams)


def together(engine: EngineWorker, openings: Sequence[Opening]) -> list[Asking]:
    """Streams that come at once, and want all their tokens."""
    streams = [Asking(engine, one) for one in openings]
    for stream, one in zip(streams, openings, strict=True):
        stream.ask([], one.max_tokens)
    return streams


def plain(index: int, tokens: int, **more: int) -> Opening:
    return Opening(str(index), (index,), SamplingParams(), index, tokens, **more)  # type: ignore[arg-type]


def test_without_exact_rows_a_stream_is_never_preempted_but_waits_for_all_its_kv() -> None:
    watching = Watching()
    engine = EngineWorker(
        TableRunner(VOCABULARY),
        max_batched_tokens=8,
        kv_pages=6,
        waiting=LIMITS,
        preempts=False,
        watcher=watching,
    )
    streams = together(engine, [plain(index, 40) for index in range(4)])
    assert (engine.load.sessions, engine.load.waiting) == (2, 2)
    while not all(one.over for one in streams):
        engine._step()
        for one in streams:
            if one.over:
                engine.close(one.session)
    assert watching.preemptions == 0
    assert [wait > 0 for wait in watching.waited] == [False, False, True, True]


def test_without_a_queue_the_last_one_is_dropped_with_an_error_that_passes() -> None:
    watching = Watching()
    engine = EngineWorker(
        TableRunner(VOCABULARY), max_batched_tokens=8, kv_pages=3, watcher=watching
    )
    first, second = together(engine, [plain(index, 40) for index in range(2)])
    while not first.over:
        engine._step()
    assert first.error is None
    assert isinstance(second.error, ResourceExhausted)
    assert str(second.error).startswith("KV is full: ")
    assert second.error.retry_after is not None
    assert watching.preemptions == 1


def test_prefixes_that_ended_streams_left_go_before_any_stream_does() -> None:
    watching = Watching()
    engine = worker(TableRunner(VOCABULARY), 6, watching)
    [ended] = together(engine, [plain(7, 60)])
    while not ended.over:
        engine._step()
    engine.close(ended.session)
    engine._step()
    assert engine._prefixes.pages == 4
    streams = together(engine, [plain(index, 40) for index in range(2)])
    while not all(one.over for one in streams):
        engine._step()
    assert watching.preemptions == 0
    assert engine._prefixes.pages == 0


def test_spare_sessions_give_their_kv_to_a_stream_that_opens_and_are_no_preemption() -> None:
    watching = Watching()
    engine = EngineWorker(
        TableRunner(VOCABULARY), max_batched_tokens=8, kv_pages=3, watcher=watching
    )
    [first] = together(engine, [plain(0, 12)])
    spare = [Asking(engine, plain(index, 12), spare=True) for index in (1, 2)]
    engine._step()
    assert engine.load.kv_pages_used == 3
    second = Asking(engine, plain(3, 12))
    second.ask([], 12)
    while not (first.over and second.over):
        engine._step()
    assert first.error is second.error is spare[0].error is None
    assert isinstance(spare[1].error, ResourceExhausted)
    assert watching.preemptions == 0
