"""The output on its way to the client: bounded, and explicit about a client that does not read."""

import asyncio

import pytest

from orchestrator import stream as module
from orchestrator.statistics import StreamStatistics
from orchestrator.stream import OutputStream
from paceline.errors import ResourceExhausted, Unavailable
from paceline.generation import FinishReason, Usage
from paceline.sampling import SamplingParams
from paceline.session import Opening, Origin, Verdict
from tests.unit.orchestrator.test_tokenizer import TOKENIZER

STOP = 9


def make_stream(output: tuple[int, ...] = (), max_tokens: int = 8) -> OutputStream:
    opening = Opening(
        "test", (1, 2), SamplingParams(), 0, max_tokens, output, stop_token_ids=frozenset({STOP})
    )
    return OutputStream(opening, TOKENIZER.detokenizer(output), StreamStatistics(0.0))


async def test_deltas_carry_index_origin_and_text_and_the_last_one_flushes() -> None:
    stream = make_stream(output=TOKENIZER.encode("a"), max_tokens=5)
    text = TOKENIZER.encode("b日")
    stream.emit(Verdict(3, text[:2], 1, 1))
    assert stream.remaining == 2
    stream.emit(Verdict(5, text[2:3]))
    stream.emit(Verdict(6, (STOP,)))
    assert stream.remaining == 0
    stream.end()
    first, second, last = [delta async for delta in stream.deltas()]
    assert [delta.token_index for delta in (first, second, last)] == [1, 3, 4]
    assert [token.origin for token in first.tokens] == [Origin.ACCEPTED, Origin.BONUS]
    assert [first.text, second.text] == ["b", ""]
    assert last.text.startswith("\ufffd")
    assert stream.finish_reason is FinishReason.STOP
    assert stream.usage == Usage(2, 5, 0)
    assert stream.generated == 4


async def test_an_error_comes_behind_what_was_emitted() -> None:
    stream = make_stream()
    stream.emit(Verdict(2, TOKENIZER.encode("x")))
    stream.end(Unavailable("gone"))
    deltas = stream.deltas()
    assert (await anext(deltas)).text == "x"
    with pytest.raises(Unavailable, match="gone"):
        await anext(deltas)


async def test_a_full_buffer_waits_for_the_client_and_then_gives_up(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "BUFFER_TOKENS", 2)
    stream = make_stream()
    stream.emit(Verdict(2, (3, 4)))
    waiting = asyncio.create_task(stream.room())
    await asyncio.sleep(0)
    assert not waiting.done()
    await anext(stream.deltas())
    await waiting
    monkeypatch.setattr(module, "STALLED_SECONDS", 0.01)
    stream.emit(Verdict(4, (3, 4)))
    with pytest.raises(ResourceExhausted, match=r"did not read for 0\.01 s; 2 tokens wait"):
        await stream.room()
