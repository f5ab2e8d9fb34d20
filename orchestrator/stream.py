"""One output on its way to the client: tokens, text, statistics, and the buffer between."""

import asyncio
import time
from collections.abc import AsyncIterator

from orchestrator.statistics import StreamStatistics
from orchestrator.tokenizer import Detokenizer
from paceline.errors import PacelineError, ResourceExhausted
from paceline.generation import Delta, Finished, FinishReason, Token, Usage
from paceline.session import Opening, Verdict

BUFFER_TOKENS = 4 * 1024 * 1024 // 32
"""Tokens that may wait for a client: 4 MiB at 32 bytes each on the wire."""
STALLED_SECONDS = 30.0
"""How long the buffer may stay full before the stream ends."""


class OutputStream:
    """Verdicts go in on the round's side, deltas come out on the client's."""

    def __init__(
        self, opening: Opening, detokenizer: Detokenizer, statistics: StreamStatistics
    ) -> None:
        """Begin behind the opening's output tokens."""
        self._opening = opening
        self._detokenizer = detokenizer
        self._output = list(opening.output_token_ids)
        self._buffer: asyncio.Queue[Verdict | PacelineError | None] = asyncio.Queue()
        self._waiting_tokens = 0
        self._drained = asyncio.Event()
        self.statistics = statistics
        self.cached_tokens = 0

    @property
    def output(self) -> tuple[int, ...]:
        """Tokens decided so far."""
        return tuple(self._output)

    @property
    def remaining(self) -> int:
        """Tokens to go; 0 when the output has ended."""
        return 0 if self._stopped else self._opening.max_tokens - len(self._output)

    def emit(self, verdict: Verdict) -> None:
        """Take the verdict's tokens: the only place that emits. Never waits for the client."""
        self.statistics.observe(verdict, time.perf_counter())
        self._output.extend(verdict.token_ids)
        self._waiting_tokens += len(verdict.token_ids)
        self._buffer.put_nowait(verdict)

    def end(self, error: PacelineError | None = None) -> None:
        """Nothing more comes: the output is whole, or `error` says why it is not."""
        self._buffer.put_nowait(error)

    async def room(self) -> None:
        """Wait until the buffer has room; ResourceExhausted after STALLED_SECONDS without."""
        try:
            async with asyncio.timeout(STALLED_SECONDS):
                while self._waiting_tokens >= BUFFER_TOKENS:
                    self._drained.clear()
                    await self._drained.wait()
        except TimeoutError:
            raise ResourceExhausted(
                f"the client did not read for {STALLED_SECONDS:g} s; "
                f"{self._waiting_tokens} tokens wait, the limit is {BUFFER_TOKENS}"
            ) from None

    async def deltas(self) -> AsyncIterator[Delta]:
        """Deltas, one a verdict, as they come; raises the error that ended the stream."""
        index = len(self._opening.output_token_ids)
        while (verdict := await self._buffer.get()) is not None:
            if isinstance(verdict, PacelineError):
                raise verdict
            self._waiting_tokens -= len(verdict.token_ids)
            self._drained.set()
            last = index + len(verdict.token_ids) == len(self._output) and not self.remaining
            yield Delta(index, self._tokens(verdict, last))
            index += len(verdict.token_ids)

    @property
    def usage(self) -> Usage:
        """Tokens so far."""
        prompt = len(self._opening.prompt_token_ids)
        return Usage(prompt, len(self._output), self.cached_tokens)

    @property
    def generated(self) -> int:
        """Output tokens made here, without those the stream came with."""
        return len(self._output) - len(self._opening.output_token_ids)

    @property
    def finish_reason(self) -> FinishReason:
        """Why the output ended; when it has."""
        return FinishReason.STOP if self._stopped else FinishReason.LENGTH

    def finished(self) -> Finished:
        """How the output ended; when it has."""
        return Finished(self.finish_reason, self.usage, self.statistics.result())

    @property
    def _stopped(self) -> bool:
        return bool(self._output) and self._output[-1] in self._opening.stop_token_ids

    def _tokens(self, verdict: Verdict, last: bool) -> tuple[Token, ...]:
        texts = [self._detokenizer.step(token) for token in verdict.token_ids]
        if last:
            texts[-1] += self._detokenizer.flush()
        parts = zip(verdict.token_ids, verdict.origins(), texts, strict=True)
        return tuple(Token(token, origin, text) for token, origin, text in parts)
