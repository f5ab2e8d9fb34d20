"""One choice of a call: from verdicts to tokens, text and statistics."""

import asyncio
import dataclasses
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from orchestrator.serving.event_buffer import EventBuffer
from orchestrator.serving.stream_statistics import StreamStatistics, TimedStep
from orchestrator.serving.text.output_text import OutputText
from orchestrator.speculation.estimates.counts import PoolCounts
from paceline.protocol.generation import Delta, Finished, FinishReason, Token, Usage
from paceline.protocol.model import ModelInfo
from paceline.protocol.proposal import Drafter, DraftToken
from paceline.protocol.session import Opening
from paceline.protocol.verdict import PromptLogprobs, TimedVerdict, Verdict
from paceline.values import value


@dataclass(slots=True)
class _Arrival:
    """A verdict that came, how long the round had waited for its draft, and what was verified."""

    timed: TimedVerdict
    draft_wait: float
    draft_tokens: tuple[DraftToken, ...] = ()


@value(frozen=True, slots=True, kw_only=True)
class TimedDelta(Delta):
    """A delta, and the step it came of: for fronts that show how an output comes."""

    step: TimedStep


class OutputStream:
    """Verdicts go in on the round's side, deltas come out at the event buffer.

    emit takes the tokens, so that the next step can be asked for at once; settle makes text
    of them while the servers work.
    """

    def __init__(
        self,
        opening: Opening,
        text: OutputText,
        arrived: float,
        event_buffer: EventBuffer,
        choice_index: int = 0,
    ) -> None:
        """Begin behind the opening's output tokens, as if they had been emitted here.

        text: of the output, at its beginning. arrived: when the request came, on the event loop's
        clock. begun, which others may wait for, is set with the first delta.
        """
        self.opening = opening
        self._text = text
        self._event_buffer = event_buffer
        self._choice_index = choice_index
        self._output: list[int] = []
        self._settled = 0
        self._arrivals: deque[_Arrival] = deque()
        self._draft_wait = 0.0
        self._prompt_logprobs = 0
        self.statistics = StreamStatistics(arrived)
        self.cached_tokens: int | None = None
        self.begun = asyncio.Event()
        self.on_interruption: Callable[[], None] = lambda: None
        self.on_target: Callable[[ModelInfo], None] = lambda _: None
        for token in opening.output_token_ids:
            self._output.append(token)
            self._text.step(token, len(self._output))
            if self._text.stop_string:
                break
        self.remaining = self._to_go()
        """Tokens to go; 0 when the output has ended."""

    @property
    def output(self) -> tuple[int, ...]:
        """Tokens decided so far."""
        return tuple(self._output)

    @property
    def ended(self) -> bool:
        """Whether the output is whole, and settled."""
        return not self.remaining and not self._arrivals

    def waited(self, seconds: float) -> None:
        """The round waited for its draft."""
        self._draft_wait += seconds

    def received(self, drafter: Drafter, count: int) -> None:
        """Draft tokens came."""
        self.statistics.receive(drafter, count)

    def verified(self, draft_tokens: tuple[DraftToken, ...]) -> None:
        """The verdict that was emitted last is of these."""
        if self._arrivals:
            self._arrivals[-1].draft_tokens = draft_tokens

    def count_in(self, counts: PoolCounts) -> None:
        """What the stream does is counted there, too, from now on."""
        self.statistics.pool_counts = counts

    def emit(self, timed: TimedVerdict) -> None:
        """Take the verdict's tokens: the only place that emits. Never waits for the client."""
        if self.cached_tokens is None:
            self.cached_tokens = timed.verdict.cached_tokens
        self._output.extend(timed.verdict.token_ids)
        self.remaining = self._to_go()
        self._arrivals.append(_Arrival(timed, self._draft_wait))
        self._draft_wait = 0.0

    def emit_prompt_logprobs(self, piece: PromptLogprobs) -> None:
        """Pass a piece on, once: a target that takes over sends all pieces again."""
        if piece.position > self._prompt_logprobs:
            self._prompt_logprobs = piece.position + len(piece.tokens) - 1
            tokens = tuple(self._text.with_texts(token) for token in piece.tokens)
            self._event_buffer.put(PromptLogprobs(piece.position, tokens))

    def settle(self) -> None:
        """Make deltas of what was emitted. A stop string takes back the tokens behind it."""
        while self._arrivals:
            arrival = self._arrivals.popleft()
            start = len(self.opening.output_token_ids) + self._settled
            offset = self._text.length
            tokens = self._tokens(arrival.timed.verdict, start)
            if self._text.stop_string:
                self._arrivals.clear()
                del self._output[start + len(tokens) :]
                self.remaining = 0
            if not self._arrivals and not self.remaining and not self._text.stop_string:
                flushed = tokens[-1].text + self._text.flush(len(self._output))
                tokens[-1] = dataclasses.replace(tokens[-1], text=flushed)
            self._settled += len(tokens)
            kept = arrival.timed.head(len(tokens))
            step = self.statistics.step(kept, arrival.draft_wait, arrival.draft_tokens)
            self.statistics.observe(kept, arrival.draft_wait)
            delta = TimedDelta(start, tuple(tokens), self._choice_index, offset, step=step)
            self._event_buffer.put(delta)
            self.begun.set()

    async def room(self) -> None:
        """Wait until the client has read enough."""
        if not self._event_buffer.has_room:
            await self._event_buffer.room()
            self.interrupted()

    def interrupted(self) -> None:
        """Statistics and pacer leave out the time until the next verdict: no round took it."""
        self._draft_wait = 0.0
        self.statistics.interrupted()
        self.on_interruption()

    def without_target(self, *, lost: bool) -> None:
        """It waits for a target. lost: it had one."""
        self.waits(True)
        self.statistics.target_losses += lost

    def waits(self, waiting: bool) -> None:
        """Whether it waits for a target or for KV, until the next verdict."""
        self.statistics.waiting = waiting

    @property
    def usage(self) -> Usage:
        """Tokens so far."""
        prompt = len(self.opening.prompt_token_ids)
        accepted = self.statistics.accepted
        return Usage(prompt, len(self._output), self.cached_tokens or 0, accepted)

    @property
    def generated(self) -> int:
        """Output tokens made here, without those the stream came with."""
        return len(self._output) - len(self.opening.output_token_ids)

    @property
    def finish_reason(self) -> FinishReason:
        """Why the output ended; when it has."""
        return FinishReason.STOP if self._stopped else FinishReason.LENGTH

    def finished(self) -> Finished:
        """How the output ended; when it has."""
        return Finished(
            self.finish_reason,
            self.usage,
            self.statistics.result(),
            self._choice_index,
            self._text.stop_string,
            self._stop_token_id,
        )

    def _to_go(self) -> int:
        return 0 if self._stopped else self.opening.max_tokens - len(self._output)

    @property
    def _stopped(self) -> bool:
        if self._text.stop_string is not None:
            return True
        return bool(self._output) and self._output[-1] in self.opening.stop_token_ids

    @property
    def _stop_token_id(self) -> int | None:
        """The last token, when it is one that ends the output."""
        stopped = self._stopped and self._text.stop_string is None
        return self._output[-1] if stopped else None

    def _tokens(self, verdict: Verdict, index: int) -> list[Token]:
        """The verdict's tokens, the first one `index` in the output, up to a stop string."""
        tokens: list[Token] = []
        logprobs = verdict.logprobs or (None,) * len(verdict.token_ids)
        for token, origin, own in zip(verdict.token_ids, verdict.origins(), logprobs, strict=True):
            text = self._text.step(token, index + len(tokens) + 1)
            tokens.append(Token(token, origin, text, own and self._text.with_texts(own)))
            if self._text.stop_string:
                break
        return tokens


class ScoredPrompt(OutputStream):
    """A choice of which only the prompt's logprobs are wanted: the first verdict ends it.

    The target is asked for one token, as it decides nothing without one, and that is left out.
    """

    def _to_go(self) -> int:
        return 1 if self.cached_tokens is None else 0

    def emit(self, timed: TimedVerdict) -> None:
        """Note that the whole prompt was computed."""
        self.statistics.scored(timed)
        self.cached_tokens = timed.verdict.cached_tokens
        self.remaining = self._to_go()
