"""One choice, from verdicts to deltas; and the event buffer: what a slow client meets."""

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.serving import event_buffer as module
from orchestrator.serving.event_buffer import EventBuffer, ReadWatch
from orchestrator.serving.output import OutputStream, ScoredPrompt, TimedDelta
from orchestrator.serving.stream_statistics import TimedStep
from orchestrator.serving.text.output_text import OutputText
from paceline.errors import ResourceExhausted, Unavailable
from paceline.protocol.generation import Delta, Finished, FinishReason, Usage
from paceline.protocol.proposal import DraftToken
from paceline.protocol.sampling import SamplingParams
from paceline.protocol.session import Opening
from paceline.protocol.verdict import Origin, PromptLogprobs, TimedVerdict, TokenLogprobs, Verdict
from tests.unit.orchestrator.serving.text.test_tokenizer import TOKENIZER

STOP = TOKENIZER.encode("!")[0]


def make_stream(
    output: tuple[int, ...] = (),
    max_tokens: int = 8,
    stop: tuple[str, ...] = (),
    min_tokens: int = 0,
    *,
    include_stop: bool = False,
) -> tuple[OutputStream, EventBuffer]:
    sampling = SamplingParams(min_tokens=min_tokens)
    opening = Opening(
        "test", (1, 2), sampling, 0, max_tokens, output, stop_token_ids=frozenset({STOP})
    )
    event_buffer = EventBuffer()
    text = OutputText(opening, TOKENIZER.detokenizer(), stop, include_stop=include_stop)
    return OutputStream(opening, text, 0.0, event_buffer), event_buffer


async def deltas_of(event_buffer: EventBuffer) -> list[Delta]:
    event_buffer.end()
    return [event async for event in event_buffer.events() if isinstance(event, Delta)]


def emit(stream: OutputStream, *verdicts: Verdict | TimedVerdict) -> None:
    for verdict in verdicts:
        if stream.remaining:
            timed = verdict if isinstance(verdict, TimedVerdict) else TimedVerdict(verdict)
            stream.emit(timed)
            stream.settle()


async def test_deltas_carry_index_offset_origin_and_text_and_the_last_one_flushes() -> None:
    stream, event_buffer = make_stream(output=TOKENIZER.encode("a"), max_tokens=5)
    text = TOKENIZER.encode("b日")
    emit(stream, Verdict(3, text[:2], 1, 1))
    assert stream.remaining == 2
    emit(stream, Verdict(5, text[2:3]), Verdict(6, (STOP,)))
    assert stream.ended
    first, second, last = await deltas_of(event_buffer)
    assert [delta.token_index for delta in (first, second, last)] == [1, 3, 4]
    assert [delta.text_offset for delta in (first, second, last)] == [1, 2, 2]
    assert [token.origin for token in first.tokens] == [Origin.ACCEPTED, Origin.BONUS]
    assert [first.text, second.text] == ["b", ""]
    assert last.text.startswith("\ufffd")
    finished = stream.finished()
    assert finished.finish_reason is FinishReason.STOP
    assert (finished.stop_token_id, finished.stop_string) == (STOP, None)
    assert stream.usage == Usage(2, 5, 0, 1)
    assert stream.generated == 4


@pytest.mark.parametrize(
    ("text", "shown", "stop_string"),
    [("abcdef", "abcd", "cd"), ("ab!", "ab!", None), ("abc!", "abc!", "c!")],
)
async def test_what_ended_the_output_stays_in_its_text_where_that_is_asked_for(
    text: str, shown: str, stop_string: str | None
) -> None:
    """A stop token's own text, too, as in vLLM; what is behind a string is left out."""
    stream, event_buffer = make_stream(max_tokens=20, stop=("cd", "c!"), include_stop=True)
    for index, token in enumerate(TOKENIZER.encode(text)):
        emit(stream, Verdict(2 + index, (token,)))
    assert stream.ended
    assert "".join(delta.text for delta in await deltas_of(event_buffer)) == shown
    finished = stream.finished()
    assert finished.finish_reason is FinishReason.STOP
    assert finished.stop_string == stop_string
    assert (finished.stop_token_id is None) == (stop_string is not None)


async def test_a_delta_has_the_step_that_it_came_of_without_what_a_stop_string_took_back() -> None:
    stream, event_buffer = make_stream(max_tokens=20, stop=("cd",))
    stream.waited(0.25)
    verdict = Verdict(2, TOKENIZER.encode("abcdef"), 5, 5, step_seconds=0.5)
    stream.emit(TimedVerdict(verdict, arrived_seconds=2.0, asked_seconds=1.0))
    drafted = tuple(map(DraftToken, verdict.token_ids[:5]))
    stream.verified(drafted)
    stream.settle()
    [delta] = await deltas_of(event_buffer)
    assert isinstance(delta, TimedDelta)
    assert delta.step == TimedStep(1.0, 2.0, 0.25, 0.5, 4, 4, drafted)


async def test_a_stop_string_takes_back_what_is_behind_it_and_counts_none_of_it() -> None:
    stream, event_buffer = make_stream(max_tokens=20, stop=("cd",))
    text = TOKENIZER.encode("abcdef")
    emit(stream, Verdict(2, text, 5, 5))
    assert stream.ended
    [delta] = await deltas_of(event_buffer)
    assert delta.text == "ab"
    assert [token.id for token in delta.tokens] == list(text[:4])
    finished = stream.finished()
    assert (finished.stop_token_id, finished.stop_string) == (None, "cd")
    assert finished.statistics.verified == finished.statistics.accepted == 4
    assert finished.usage.output_tokens == 4


@given(
    text=st.text("abc!", min_size=1, max_size=14),
    cuts=st.lists(st.integers(1, 5), max_size=14),
    stop=st.lists(st.text("abc", min_size=1, max_size=3), max_size=2).map(tuple),
    min_tokens=st.integers(0, 6),
    resumed=st.integers(0, 14),
    include_stop=st.booleans(),
)
def test_rounds_of_any_length_give_the_same_tokens_text_and_end(
    text: str,
    cuts: list[int],
    stop: tuple[str, ...],
    min_tokens: int,
    resumed: int,
    include_stop: bool,
) -> None:
    """In one verdict, one by one, cut anywhere, and resumed at any token."""
    tokens = TOKENIZER.encode(text)

    async def outcome(sizes: list[int], start: int = 0) -> tuple[str, list[int], Finished]:
        stream, event_buffer = make_stream(
            tokens[:start], len(tokens), stop, min_tokens, include_stop=include_stop
        )
        at = start
        for size in [*sizes, *[1] * len(tokens)]:
            emit(stream, Verdict(2 + at, tokens[at : at + size], 1, 0))
            at += size
        deltas = await deltas_of(event_buffer)
        return (
            "".join(delta.text for delta in deltas),
            [token.id for delta in deltas for token in delta.tokens],
            stream.finished(),
        )

    # Verdicts end at a stop token: the target says nothing behind it.
    end = tokens.index(STOP) + 1 if STOP in tokens else len(tokens)
    tokens = tokens[:end]
    whole = asyncio.run(outcome([len(tokens)]))
    cut = asyncio.run(outcome(cuts))
    assert cut[:2] == whole[:2]
    assert cut[2].stop_string == whole[2].stop_string
    assert cut[2].finish_reason == whole[2].finish_reason
    resumed = min(resumed, len(whole[1]))
    rest = asyncio.run(outcome(cuts, resumed))
    one_by_one = asyncio.run(outcome([]))
    assert one_by_one[:2] == whole[:2]
    assert rest[1] == whole[1][resumed:]
    assert whole[0].endswith(rest[0])
    assert rest[2].usage.output_tokens == whole[2].usage.output_tokens
    assert rest[2].stop_string == whole[2].stop_string


async def test_logprobs_of_the_prompt_are_passed_on_once() -> None:
    stream, event_buffer = make_stream()
    pieces = [
        PromptLogprobs(1, (TokenLogprobs(-1.0), TokenLogprobs(-2.0))),
        PromptLogprobs(3, (TokenLogprobs(-3.0),)),
    ]
    for piece in (pieces[0], pieces[0], pieces[1], pieces[0], pieces[1]):
        stream.emit_prompt_logprobs(piece)
    event_buffer.end()
    assert [event async for event in event_buffer.events()] == pieces


async def test_a_scored_prompt_ends_with_the_first_verdict_and_has_none_of_its_tokens() -> None:
    event_buffer = EventBuffer()
    opening = Opening("test", (1, 2), SamplingParams(), 0, 1, prompt_logprobs=0)
    text = OutputText(opening, TOKENIZER.detokenizer(), ())
    stream = ScoredPrompt(opening, text, 5.0, event_buffer)
    assert stream.remaining == 1
    assert not stream.ended
    stream.emit(TimedVerdict(Verdict(2, (7,)), arrived_seconds=7.5))
    stream.settle()
    assert stream.ended
    assert await deltas_of(event_buffer) == []
    assert stream.generated == 0
    assert stream.statistics.seconds == stream.finished().statistics.ttft_seconds == 2.5
    assert stream.statistics.ttft_seconds is None


async def test_an_error_comes_behind_what_was_emitted() -> None:
    stream, event_buffer = make_stream()
    emit(stream, Verdict(2, TOKENIZER.encode("x")))
    event_buffer.end(Unavailable("gone"))
    events = event_buffer.events()
    assert (await anext(events)).text == "x"  # type: ignore[union-attr]
    with pytest.raises(Unavailable, match="gone"):
        await anext(events)


async def test_a_full_buffer_waits_for_the_client_and_then_gives_up(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "BUFFER_BYTES", 64)
    stream, event_buffer = make_stream(max_tokens=20)
    emit(stream, Verdict(2, (3, 4)))
    waiting = asyncio.create_task(stream.room())
    await asyncio.sleep(0)
    assert not waiting.done()
    await anext(event_buffer.events())
    await waiting
    monkeypatch.setattr(module, "STALLED_SECONDS", 0.06)
    emit(stream, Verdict(4, (3, 4)))
    waiting = asyncio.create_task(stream.room())
    event_buffer.filled_by(waiting)
    watch = ReadWatch(event_buffer)
    assert await cancelled_by_another(waiting)
    watch.stop()
    with pytest.raises(ResourceExhausted, match=r"did not read for 0\.06 s; 64 bytes wait") as full:
        await anext(event_buffer.events())
    assert full.value.retry_after == module.RESUME_SECONDS
    assert event_buffer.is_read, "what waited is dropped: the client resumes, and gets it again"


async def cancelled_by_another(task: "asyncio.Task[None]") -> bool:
    await asyncio.wait({task})
    return task.cancelled()


async def test_a_client_that_reads_ever_so_slowly_is_not_given_up(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "STALLED_SECONDS", 0.06)
    stream, event_buffer = make_stream(max_tokens=100)
    emit(stream, *(Verdict(2 + position, (3,)) for position in range(60)))
    watch = ReadWatch(event_buffer)
    looks, look = [0], watch._look

    def looked() -> None:
        looks[0] += 1
        look()

    monkeypatch.setattr(watch, "_look", looked)
    events = event_buffer.events()
    for read in range(1, 6):
        assert isinstance(await anext(events), Delta)
        while looks[0] < 4 * read:  # of the six in vain that end a call
            await asyncio.sleep(0.001)
    watch.stop()
    assert event_buffer.aborted is None


async def test_prompt_logprobs_fill_the_buffer_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "BUFFER_BYTES", 1000)
    stream, event_buffer = make_stream()
    logprobs = TokenLogprobs(-1.0, ())
    for position in (1, 17):
        assert event_buffer.has_room
        stream.emit_prompt_logprobs(PromptLogprobs(position, (logprobs,) * 16))
    assert not event_buffer.has_room


async def test_prompt_logprobs_that_nobody_reads_end_the_call(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "STALLED_SECONDS", 0.06)
    stream, event_buffer = make_stream()
    stream.emit_prompt_logprobs(PromptLogprobs(1, (TokenLogprobs(-1.0, ()),) * 16))
    filler = asyncio.create_task(asyncio.Event().wait())
    event_buffer.filled_by(filler)  # type: ignore[arg-type]
    watch = ReadWatch(event_buffer)
    await asyncio.wait({filler})
    watch.stop()
    with pytest.raises(ResourceExhausted, match=r"did not read for 0\.06 s; 512 bytes wait"):
        await anext(event_buffer.events())


async def test_what_is_held_back_comes_in_its_order_when_the_output_ends() -> None:
    """The beginning of a stop string, and behind it a character that lacks bytes."""
    stream, event_buffer = make_stream(max_tokens=2, stop=("nQ",))
    emit(stream, Verdict(2, (TOKENIZER.encode("n")[0], TOKENIZER.encode("日")[0]), 1, 1))
    [delta] = await deltas_of(event_buffer)
    assert delta.text == "n\ufffd"
    assert stream.finished().finish_reason is FinishReason.LENGTH


@pytest.mark.parametrize("begun", [True, False])
async def test_an_aborted_buffer_raises_before_what_waits_and_stops_who_fills_it(
    *, begun: bool
) -> None:
    stream, event_buffer = make_stream()
    emit(stream, Verdict(1, TOKENIZER.encode("a")))
    filler = asyncio.create_task(asyncio.sleep(600))
    if begun:
        event_buffer.filled_by(filler)
    event_buffer.abort(Unavailable("x"))
    if not begun:
        event_buffer.filled_by(filler)
    with pytest.raises(Unavailable, match="x"):
        await anext(event_buffer.events())
    with pytest.raises(asyncio.CancelledError):
        await filler
