"""Sessions of a target on vLLM: vLLM's own tokens, whatever is drafted and whoever else runs."""

import dataclasses
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tokenizers import Tokenizer

from paceline.engine.grammar import Grammars
from paceline.engine.interfaces import StartedEngine
from paceline.engine.worker import EngineWorker
from paceline.errors import Internal
from paceline.protocol.constraint import Constraint, ConstraintKind
from paceline.protocol.sampling import SamplingParams
from paceline.protocol.session import Opening
from tests.vllm.conftest import TOKENS, Alone
from tests.vllm.streams import Stream, drafts_of, no_draft, run_together

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(1800)]
GREEDY = SamplingParams(temperature=0.0)
KINDS = ("identical", "close", "unrelated")
SAMPLED = {
    "temperature": SamplingParams(temperature=0.9),
    "filters": SamplingParams(temperature=1.2, top_k=40, top_p=0.9, min_p=0.02),
    "penalties": SamplingParams(
        temperature=0.7, repetition_penalty=1.3, presence_penalty=0.5, frequency_penalty=0.3
    ),
    "what is ruled out": SamplingParams(
        temperature=1.0, logit_bias={7: 2.0}, bad_words_token_ids=((28,), (198, 198))
    ),
}


def opening(prompt: tuple[int, ...], tokens: int = TOKENS, **more: Any) -> Opening:
    fields = {"sampling": GREEDY, "seed": 1, **more}
    return Opening("test", prompt, max_tokens=tokens, **fields)


def free_pages(started: StartedEngine) -> int:
    load = started.engine.load
    return load.kv_pages_total - load.kv_pages_used


def test_2000_greedy_tokens_are_vllms_own_with_8_streams_that_come_and_go(
    started: StartedEngine, alone: Alone
) -> None:
    """All kinds of drafts of 0 to 8 tokens; others join late, and are cancelled half way."""
    engine, waiting = started.engine, list(range(len(alone.prompts)))
    streams: dict[int, Stream] = {}
    cancelled: list[Stream] = []
    while waiting or any(not stream.finished for stream in streams.values()):
        running = [stream for stream in streams.values() if not stream.finished]
        if waiting and len(running) < 8:
            at = waiting.pop(0)
            draft = drafts_of(alone.outputs[at], KINDS[at % 3], at)
            streams[at] = Stream(engine, opening(alone.prompts[at]), draft)
            cancelled.append(Stream(engine, opening(alone.prompts[at][::-1]), no_draft))
            running += [streams[at], cancelled[-1]]
            cancelled[-1].ask()
            streams[at].ask()
            for stream in running[-2:]:
                stream.take()
            if at % 2:
                cancelled[-1].ask()  # and is never waited for
            cancelled[-1].close()
            continue
        for stream in running:
            stream.ask()
        for stream in running:
            stream.take()
        for stream in running:
            if stream.finished:
                stream.close()
    for at, stream in streams.items():
        assert tuple(stream.tokens) == alone.outputs[at], at
    assert sum(len(stream.tokens) for stream in streams.values()) >= 2000
    assert all(stream.accepted > TOKENS // 2 for at, stream in streams.items() if at % 3 == 0)


@pytest.mark.parametrize("kind", KINDS)
def test_one_stream_alone_has_vllms_own_tokens(
    kind: str, started: StartedEngine, alone: Alone
) -> None:
    draft = drafts_of(alone.outputs[0], kind, 0)
    stream = Stream(started.engine, opening(alone.prompts[0], 40), draft)
    assert stream.run() == alone.outputs[0][:40]


@pytest.fixture(params=["on the host", "in the worker"])
def picked(request: pytest.FixtureRequest, started: StartedEngine) -> Iterator[None]:
    """Where tokens are picked."""
    assert isinstance(started.engine, EngineWorker)
    core = started.engine._runner._core  # type: ignore[attr-defined]
    before, core.picks = core.picks, request.param == "in the worker"
    yield
    core.picks = before


@pytest.mark.usefixtures("picked")
@pytest.mark.parametrize("name", SAMPLED)
def test_seeded_tokens_depend_neither_on_drafts_nor_on_company(
    name: str, started: StartedEngine, alone: Alone
) -> None:
    made = opening(alone.prompts[1], 40, sampling=SAMPLED[name], seed=11)
    expected = Stream(started.engine, made).run()
    assert expected != Stream(started.engine, dataclasses.replace(made, seed=12)).run()
    streams = [
        Stream(started.engine, made, drafts_of(expected, kind, 3)) for kind in (*KINDS, *KINDS)
    ]
    run_together(streams)
    assert [tuple(stream.tokens) for stream in streams] == [expected] * len(streams)
    assert streams[0].accepted > 20


def test_a_resumed_stream_goes_on_as_it_would_have(started: StartedEngine, alone: Alone) -> None:
    output = alone.outputs[2]
    made = opening(alone.prompts[2], 60, output_token_ids=output[:23])
    assert Stream(started.engine, made, drafts_of(output, "close", 1)).run() == output[:60]


def test_a_stop_token_ends_the_output(started: StartedEngine, alone: Alone) -> None:
    output = alone.outputs[3]
    stop = output[20]
    made = opening(alone.prompts[3], stop_token_ids=frozenset({stop}))
    said = Stream(started.engine, made, drafts_of(output, "identical", 1)).run()
    assert said == output[: output.index(stop) + 1]


def test_logprobs_of_prompt_and_output_are_of_the_same_numbers(
    started: StartedEngine, alone: Alone
) -> None:
    """The prompt of the second stream is the first one's output: the same positions, twice."""
    prompt = alone.prompts[4]
    first = Stream(started.engine, opening(prompt, 30, logprobs=3))
    output = first.run()
    said = [one for verdict in first.verdicts for one in verdict.logprobs]
    assert len(said) == 30
    second = Stream(started.engine, opening((*prompt, *output), 1, prompt_logprobs=3))
    second.run()
    of_prompt = [one for part in second.prompt_logprobs for one in part.tokens]
    assert len(of_prompt) == len(prompt) + 29
    for decoded, again in zip(said, of_prompt[len(prompt) - 1 :], strict=True):
        assert decoded.logprob == pytest.approx(again.logprob, abs=1e-2)
        assert decoded.top[0].token_id == again.top[0].token_id


def test_prefixes_are_shared_by_salt_only(started: StartedEngine) -> None:
    prompt = tuple(random.Random(5).randrange(2000) for _ in range(300))
    first = Stream(started.engine, opening(prompt, 4, cache_salt="a"))
    expected = first.run()
    cached = {}
    for salt in ("a", "b"):
        stream = Stream(started.engine, opening(prompt, 4, cache_salt=salt))
        assert stream.run() == expected
        cached[salt] = stream.verdicts[0].cached_tokens
    assert first.verdicts[0].cached_tokens == 0
    assert cached == {"a": len(prompt), "b": 0} or cached == {"a": len(prompt) - 1, "b": 0}


def test_a_cancelled_stream_frees_its_kv_before_the_next_step(
    started: StartedEngine, alone: Alone
) -> None:
    earlier = Stream(started.engine, opening(alone.prompts[3]))
    earlier.step()  # before which streams that other tests closed are gone
    before = free_pages(started)
    stream, other = (Stream(started.engine, opening(prompt)) for prompt in alone.prompts[:2])
    stream.step()
    assert free_pages(started) < before - 1
    stream.close()
    other.step()
    other.close()
    earlier.close()
    third = Stream(started.engine, opening(alone.prompts[2]))
    third.step()
    assert started.engine.load.sessions == 1
    third.close()


def test_structured_output_is_held_to_its_grammar(
    started: StartedEngine, folder: Path, alone: Alone
) -> None:
    file = (folder / "tokenizer.json").read_bytes()
    grammars = Grammars(file, started.model.vocabulary_size, started.model.eos_token_ids)
    constraint = Constraint(ConstraintKind.REGEX, "(yes|no), [0-9]{3}")
    sampling = SamplingParams(temperature=1.0, constraint=constraint)
    stop = frozenset(started.model.eos_token_ids)
    made = opening(alone.prompts[5], 30, sampling=sampling, stop_token_ids=stop)
    expected = Stream(started.engine, made, grammar=grammars.compile(constraint)).run()
    text = Tokenizer.from_file(str(folder / "tokenizer.json")).decode(list(expected))
    assert text[:4] in ("yes,", "no, ")
    drafted = Stream(
        started.engine, made, drafts_of(expected, "close", 2), grammars.compile(constraint)
    )
    assert drafted.run() == expected


def test_a_failed_step_ends_its_streams_and_no_other(
    started: StartedEngine, alone: Alone, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert isinstance(started.engine, EngineWorker)
    runner: Any = started.engine._runner
    run, failures = runner._core.run, iter([True])

    def failing(step: Any) -> Any:
        if next(failures, False):
            raise RuntimeError("a kernel failed")
        return run(step)

    stream = Stream(started.engine, opening(alone.prompts[0], 8))
    monkeypatch.setattr(runner._core, "run", failing)
    with pytest.raises(Internal, match="the forward pass failed"):
        stream.run()
    assert Stream(started.engine, opening(alone.prompts[0], 8)).run() == alone.outputs[0][:8]


def test_the_fingerprint_says_what_computes_and_the_probe_is_believed(
    started: StartedEngine,
) -> None:
    assert started.model.fingerprint.startswith("vllm-0.32.0-float32-CPU_ATTN-tp1-pp1-")
    assert not started.model.batch_invariant  # as seen with the kernels of this release
