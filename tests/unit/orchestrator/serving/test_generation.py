"""What every front calls, driven with values alone: no gRPC, and a target that is made up."""

import asyncio
import contextlib
from collections.abc import AsyncGenerator
from dataclasses import replace
from types import SimpleNamespace
from typing import Any, cast

import pytest
import structlog
from prometheus_client import CollectorRegistry

from orchestrator.backends.draft_router import DraftRouter
from orchestrator.backends.pool import Pool
from orchestrator.backends.replica import ReplicaHealth
from orchestrator.backends.shadow import Shadows
from orchestrator.backends.target_failover import TargetLink
from orchestrator.serving.all_streams import AllStreams
from orchestrator.serving.choices import ChoiceRunner
from orchestrator.serving.generation import Serving
from orchestrator.serving.metrics import OrchestratorMetrics
from orchestrator.serving.output import OutputStream
from orchestrator.serving.served_models import ServedModels
from orchestrator.settings import OrchestratorSettings
from paceline.errors import Aborted, DeadlineExceeded, InvalidArgument, NotFound, PacelineError
from paceline.protocol.features import OF_ENGINE
from paceline.protocol.generation import (
    ChatMessage,
    Delta,
    Finished,
    FinishReason,
    GenerateEvent,
    GenerateRequest,
    Model,
    Speculation,
    Started,
)
from paceline.protocol.model import KVSize, ModelInfo, TokenizerFiles
from paceline.protocol.sampling import Sampling, SamplingParams
from paceline.protocol.verdict import Verdict
from paceline.rpc.request_id import outgoing_metadata
from tests.unit.orchestrator.serving.test_output import emit
from tests.unit.orchestrator.serving.test_served_models import FakePool, FakeReplica
from tests.unit.orchestrator.serving.text.test_tokenizer import FILES, TOKENIZER

MODEL = ModelInfo(
    "tiny", "print", "words", 300, 64, (), 1, True, "here", kv=KVSize(16, 4), features=OF_ENGINE
)
ANSWER = TOKENIZER.encode("hello")
SECONDS = 10.0


class Target(FakeReplica):
    """Serves MODEL; what it generates is in place of TargetLink.run."""

    health = ReplicaHealth(0, reason="")

    async def tokenizer_files(self) -> TokenizerFiles:
        return FILES


async def answers(link: TargetLink) -> None:
    """ANSWER, one token a step."""
    stream = cast("OutputStream", link._stream)
    while stream.remaining:
        emit(stream, Verdict(0, (ANSWER[len(stream.output) % len(ANSWER)],)))
        await asyncio.sleep(0)


async def stalls(link: TargetLink) -> None:
    """The first token, and then nothing."""
    emit(cast("OutputStream", link._stream), Verdict(0, ANSWER[:1]))
    await asyncio.Event().wait()


@pytest.fixture
def serving(monkeypatch: pytest.MonkeyPatch) -> Serving:
    monkeypatch.setattr(TargetLink, "run", answers)
    return serving_of(MODEL)


def serving_of(model: ModelInfo, **chosen: Any) -> Serving:
    targets, drafts = Pool(()), DraftRouter({})
    streams = AllStreams(drafts)
    metrics = OrchestratorMetrics(CollectorRegistry(), targets, drafts, streams)
    no_drafts = SimpleNamespace(ready=[], vocabularies=SimpleNamespace(fits=None))
    models = ServedModels(cast("Any", FakePool([Target(model)])), cast("Any", no_drafts))
    settings = OrchestratorSettings(**chosen)
    shadows = Shadows({}, 1.0)
    runner = ChoiceRunner(settings, targets, drafts, streams, metrics, shadows)
    return Serving(settings, models, runner)


def asked(**fields: Any) -> GenerateRequest:
    given: dict[str, Any] = {
        "prompt": "say",
        "seed": 7,
        "max_tokens": 5,
        "speculation": Speculation.OFF,
    }
    return GenerateRequest(**(given | fields))


async def events_of(
    serving: Serving, request: GenerateRequest, request_id: str = "", seconds: float = SECONDS
) -> list[GenerateEvent]:
    events = serving.generate(request, seconds=seconds, request_id=request_id)
    return [event async for event in events]


def text_of(events: list[GenerateEvent]) -> str:
    return "".join(event.text for event in events if isinstance(event, Delta))


async def test_a_request_is_answered_with_started_deltas_and_finished(serving: Serving) -> None:
    events = await events_of(serving, asked(), request_id="mine")
    prompt = TOKENIZER.encode("say")
    neutral = SamplingParams()
    assert events[0] == Started("mine", "tiny", "print", 7, prompt, 5, (7,), neutral)
    assert text_of(events) == "hello"
    finished = events[-1]
    assert isinstance(finished, Finished)
    assert finished.finish_reason is FinishReason.LENGTH
    assert (finished.usage.prompt_tokens, finished.usage.output_tokens) == (len(prompt), 5)


@pytest.mark.parametrize(
    ("setting", "holds"),
    [("model", SamplingParams(0.6, 5, repetition_penalty=1.1)), ("none", SamplingParams(top_k=5))],
)
async def test_sampling_that_is_not_asked_for_is_the_models_own(
    monkeypatch: pytest.MonkeyPatch, setting: str, holds: SamplingParams
) -> None:
    monkeypatch.setattr(TargetLink, "run", answers)
    own = Sampling(temperature=0.6, top_k=20, repetition_penalty=1.1)
    serving = serving_of(replace(MODEL, default_sampling=own), generation_config=setting)
    started, *_ = await events_of(serving, asked(sampling=Sampling(top_k=5)))
    assert isinstance(started, Started)
    assert started.sampling == holds


async def test_a_prompt_that_is_scored_ends_with_nothing_generated(serving: Serving) -> None:
    events = await events_of(serving, asked(max_tokens=0, prompt_logprobs=2))
    started, finished = events
    assert isinstance(started, Started)
    assert isinstance(finished, Finished)
    assert started.max_tokens == 0
    assert finished.finish_reason is FinishReason.LENGTH
    assert (finished.usage.prompt_tokens, finished.usage.output_tokens) == (3, 0)
    assert finished.statistics.target_only_steps == 0


@pytest.mark.parametrize(
    ("fields", "kept"),
    [
        ({"truncate_prompt_tokens": 2}, 2),
        ({"truncate_prompt_tokens": 1000, "prompt": "short"}, 5),
        ({"truncate_prompt_tokens": -1}, 59),
        ({"truncate_prompt_tokens": -1, "max_tokens": 63}, 1),
        ({"truncate_prompt_tokens": -1, "max_tokens": None}, 32),
        ({"truncate_prompt_tokens": -1, "max_tokens": 0, "prompt_logprobs": 0}, 63),
        ({"truncate_prompt_tokens": 3, "prompt": tuple(TOKENIZER.encode("abcdef"))}, 3),
        ({"truncate_prompt_tokens": 3, "prompt": (ChatMessage("user", "what is it?"),)}, 3),
    ],
)
async def test_of_a_prompt_its_last_tokens_are_kept(
    serving: Serving, fields: dict[str, Any], kept: int
) -> None:
    """A text without a limit is read however long it is."""
    request = asked(**({"prompt": "x" * 10_000} | fields))
    whole = TOKENIZER.encode(request.prompt)
    started, *_ = await events_of(serving, request)
    assert isinstance(started, Started)
    assert started.prompt_token_ids == whole[-kept:]
    assert len(started.prompt_token_ids) == kept


async def test_a_prompt_that_was_cut_is_resumed_as_it_is(serving: Serving) -> None:
    request = asked(prompt=TOKENIZER.encode("say"), truncate_prompt_tokens=2)
    begun = replace(request, output_token_ids=ANSWER[:1])
    started, *_ = await events_of(serving, begun)
    assert isinstance(started, Started)
    assert started.prompt_token_ids == request.prompt


async def test_more_than_the_model_has_room_for_is_refused_though_it_is_cut(
    serving: Serving,
) -> None:
    request = asked(prompt="x" * 99, truncate_prompt_tokens=70)
    with pytest.raises(InvalidArgument, match="prompt's length is 70; it must be under 64 tokens"):
        await events_of(serving, request)


async def test_bad_words_are_told_as_tokens_and_those_stand_for_them(serving: Serving) -> None:
    own = Sampling(bad_words_token_ids=((5,), (110, 111)))
    first = asked(bad_words=("no",), sampling=own)
    started, *_ = await events_of(serving, first)
    assert isinstance(started, Started)
    assert started.sampling is not None
    no, behind_a_blank = TOKENIZER.encode("no"), TOKENIZER.encode(" no")
    assert started.sampling.bad_words_token_ids == ((5,), (110, 111), no, behind_a_blank)
    again, *_ = await events_of(serving, replace(first, sampling=started.sampling))
    assert isinstance(again, Started)
    assert again.sampling == started.sampling


async def test_each_choice_ends_with_a_finished_of_its_own(serving: Serving) -> None:
    started, *events = await events_of(serving, asked(n=2))
    assert isinstance(started, Started)
    assert len(set(started.choice_seeds)) == 2
    assert {event.choice_index for event in events if isinstance(event, Finished)} == {0, 1}


@pytest.mark.parametrize(
    ("wrong", "error", "said"),
    [
        (asked(prompt=""), InvalidArgument, "prompt is"),
        (asked(sampling=SamplingParams(temperature=-1)), InvalidArgument, "sampling.temperature"),
        (asked(n=17), InvalidArgument, "n is 17"),
        (asked(model="other"), NotFound, "not served"),
        (asked(prompt=(1,) * 64), InvalidArgument, "prompt's length is 64"),
    ],
)
async def test_what_cannot_be_served_is_refused_before_any_event(
    serving: Serving, wrong: GenerateRequest, error: type[PacelineError], said: str
) -> None:
    with pytest.raises(error, match=said):
        await anext(serving.generate(wrong, seconds=SECONDS))


async def test_the_request_id_is_handed_on_to_servers_and_one_is_made_for_none(
    serving: Serving, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[str] = []

    async def notes(link: TargetLink) -> None:
        seen.append(dict(outgoing_metadata())["x-request-id"])
        await answers(link)

    monkeypatch.setattr(TargetLink, "run", notes)
    calls = [await events_of(serving, asked(), request_id) for request_id in ("mine", "")]
    told = [events[0].request_id for events in calls if isinstance(events[0], Started)]
    assert seen == told
    assert told[0] == "mine"
    assert told[1]


async def test_the_output_must_be_whole_within_the_seconds(
    serving: Serving, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(TargetLink, "run", stalls)
    with pytest.raises(DeadlineExceeded, match="not whole after"):
        await events_of(serving, asked(), seconds=0.2)


async def begun(serving: Serving, request: GenerateRequest) -> AsyncGenerator[GenerateEvent, None]:
    """A call, at its first token."""
    events = serving.generate(request, seconds=SECONDS, request_id="same")
    assert isinstance(await anext(events), Started)
    assert isinstance(await anext(events), Delta)
    return events


async def test_a_call_that_is_resumed_is_ended_and_the_other_goes_on(
    serving: Serving, monkeypatch: pytest.MonkeyPatch
) -> None:
    request = asked(prompt=TOKENIZER.encode("say"))
    with monkeypatch.context() as patch:
        patch.setattr(TargetLink, "run", stalls)
        older = await begun(serving, request)
    rest = asked(prompt=request.prompt, output_token_ids=ANSWER[:1])
    assert text_of(await events_of(serving, rest, request_id="same")) == "ello"
    with pytest.raises(Aborted, match="resumed by another call"):
        await anext(older)


async def test_closing_the_events_ends_the_call(
    serving: Serving, monkeypatch: pytest.MonkeyPatch
) -> None:
    ended: list[bool] = []

    async def runs(link: TargetLink) -> None:
        try:
            await stalls(link)
        finally:
            ended.append(True)

    monkeypatch.setattr(TargetLink, "run", runs)
    async with contextlib.aclosing(await begun(serving, asked())):
        assert not ended
    assert ended


async def test_token_ids_and_models(serving: Serving) -> None:
    assert serving.models() == []  # its tokenizer is not here yet
    ids = await serving.tokenize("say", "", seconds=SECONDS)
    assert ids == TOKENIZER.encode("say")
    text = await serving.detokenize(ids, "", skip_special_tokens=True, seconds=SECONDS)
    assert text == "say"
    assert await serving.detokenize((), "", skip_special_tokens=True, seconds=SECONDS) == ""
    with pytest.raises(InvalidArgument, match=r"^a token id in token_ids is 300; it must be under"):
        await serving.detokenize((1, 300), "", skip_special_tokens=True, seconds=SECONDS)
    assert serving.models() == [Model("tiny", "print", 64, 300, 0)]
    with pytest.raises(InvalidArgument, match="prompt is"):
        await serving.tokenize((), "", seconds=SECONDS)


async def test_a_request_is_named_in_logs_whatever_front_it_comes_by(
    serving: Serving, monkeypatch: pytest.MonkeyPatch
) -> None:
    named: list[str] = []

    async def notes(link: TargetLink) -> None:
        named.append(structlog.contextvars.get_contextvars()["request_id"])
        await answers(link)

    monkeypatch.setattr(TargetLink, "run", notes)
    await events_of(serving, asked(), request_id="mine")
    assert named == ["mine"]
