"""One generate call: its deltas, and what it takes to go on after a broken connection."""

import contextlib
import uuid
from collections.abc import AsyncGenerator, Callable
from dataclasses import dataclass, field, replace
from typing import Self

from paceline.client import misuse
from paceline.client.attempt import CANCELLED, Attempt, Elsewhere, Watch
from paceline.client.connections import Connections
from paceline.client.deltas import Deltas
from paceline.client.diagnosis import NobodyThere, explained
from paceline.client.result import Choice, Result
from paceline.client.retry import Backoff
from paceline.errors import Cancelled, FailedPrecondition, PacelineError, Unavailable
from paceline.protocol.generation import (
    Delta,
    Finished,
    GenerateEvent,
    GenerateRequest,
    SignOfLife,
    Started,
)
from paceline.protocol.verdict import Origin, PromptLogprobs, TokenLogprobs
from paceline.rpc.codec.generation import request_to_proto
from paceline.rpc.request_id import HEADER
from paceline.tracing.context import callers_metadata
from paceline.v1 import generation_pb2


@dataclass(slots=True)
class _Received:
    """What has come of one choice."""

    index: int
    deltas: list[Delta] = field(default_factory=list)
    finished: Finished | None = None

    @property
    def token_ids(self) -> tuple[int, ...]:
        return tuple(token.id for delta in self.deltas for token in delta.tokens)


class Generation(misuse.ReadByAsyncFor):
    """Outputs under way: iterate over their deltas, once. What came beside them stays here.

    When the connection breaks each choice goes on from the tokens it has: those that are
    not finished one after another, as outputs of their own.

    started: set before the first delta. prompt_logprobs: of positions from 1, set before
    the first delta when asked for.
    """

    def __init__(
        self,
        connections: Connections,
        request: GenerateRequest,
        request_id: str | None,
        backoff: Backoff,
    ) -> None:
        """Nothing is sent before the first delta is asked for; what cannot be is refused here."""
        self._connections = connections
        self._request = request
        self._message = request_to_proto(request)
        self._request_id = request_id or uuid.uuid4().hex  # of all attempts, to find them in logs
        self._trace = callers_metadata()  # here, on the thread of whoever asks
        self._backoff = backoff
        self._choices = [_Received(index) for index in range(max(1, request.n))]
        self._prompt_logprobs: list[TokenLogprobs] = []
        self._elsewhere = Elsewhere(connections)
        self._cancel: Callable[[], object] = bool
        self._cancelled = False
        self._read = False
        self.started: Started | None = None

    async def __aenter__(self) -> Self:
        """Nothing to wait for."""
        return self

    async def __aexit__(self, *_: object) -> None:
        """Cancel what has not come yet."""
        self.cancel()

    @property
    def finished(self) -> Finished | None:
        """How the first choice ended; None before it has."""
        return self._choices[0].finished

    @property
    def so_far(self) -> tuple[tuple[tuple[Delta, ...], Finished | None], ...]:
        """Of each choice what has come, and how it ended; None before it has."""
        return tuple((tuple(choice.deltas), choice.finished) for choice in self._choices)

    @property
    def prompt_logprobs(self) -> tuple[TokenLogprobs, ...]:
        """Of the prompt's tokens, from the second one on."""
        return tuple(self._prompt_logprobs)

    def cancel(self) -> None:
        """Stop; the servers free what they hold for it."""
        self._cancelled = True
        self._cancel()

    def __aiter__(self) -> Deltas:
        """Deltas as they come; leaving the loop early cancels the rest.

        They are read once: FailedPrecondition for who would read them again.
        """
        return Deltas(self._deltas(), self.is_whole)

    async def _deltas(self) -> AsyncGenerator[Delta, None]:
        self._begin()
        while unfinished := [choice for choice in self._choices if choice.finished is None]:
            whole = self.started is None
            request = self._message if whole else request_to_proto(self._rest_of(unfinished[0]))
            attempt = await self._attempt(request)
            try:
                async with contextlib.aclosing(self._events(attempt)) as events:
                    async for event in events:
                        if (
                            delta := self._take(event, None if whole else unfinished[0])
                        ) is not None:
                            yield delta
                            self._backoff.reset()
                self._check_finished(self._choices if whole else unfinished[:1])
            except PacelineError as error:
                if self._cancelled:
                    raise
                if not attempt.left:
                    await self._pause(error)
                self._check_wanted()

    async def _pause(self, error: PacelineError) -> None:
        """Before the next attempt; raises where none helps, saying why nobody answers.

        That is looked at twice at most: once all were asked, as what speaks no TLS, say, will not
        by and by, and behind the last attempt.
        """
        nobody, found = isinstance(error, NobodyThere), None
        if nobody and self.started is None and self._backoff.failed + 1 == self._connections.count:
            found = await self._connections.diagnosed(error, self._backoff.remaining)
            if found is not None and found.final:
                raise explained(error, found) from error
        try:
            await self._backoff.pause(error)
        except NobodyThere:
            found = found or await self._connections.diagnosed(error, self._backoff.remaining)
            raise explained(error, found) from error

    def is_whole(self) -> bool:
        """Whether all has come that was asked for."""
        return all(choice.finished is not None for choice in self._choices)

    async def result(self) -> Result:
        """Wait for the whole output; of one that was read to its end it is there already."""
        if not self.is_whole():
            async for _ in self:
                pass
        choices = [
            Choice(tuple(choice.deltas), choice.finished)
            for choice in self._choices
            if choice.finished is not None
        ]
        if self.started is None:
            raise Unavailable("the stream ended before it was finished")
        return Result(self.started, tuple(choices), self.prompt_logprobs)

    def _begin(self) -> None:
        """Take the deltas for who asks for them; nobody else has them."""
        if self._read:
            raise FailedPrecondition(
                "a generation is read once, and this one was, or is being read: "
                "ask generate again, or keep what result() gave"
            )
        self._check_wanted()
        self._read = True

    def _check_wanted(self) -> None:
        if self._cancelled:
            raise Cancelled(CANCELLED)

    async def _attempt(self, request: generation_pb2.GenerateRequest) -> Attempt:
        named = ((HEADER, self._request_id),)
        request.signs_of_life = True
        connection = await self._connections.take()
        seconds = self._backoff.remaining
        attempt = Attempt(self._connections, connection, request, seconds, named + self._trace)
        if self._cancelled:  # while names were resolved
            attempt.close()
        self._check_wanted()
        return attempt

    async def _events(self, attempt: Attempt) -> AsyncGenerator[GenerateEvent, None]:
        """Events of one call; leaving early cancels it. It is left where it is silent, or stops."""
        self._cancel = attempt.cancel
        watch = Watch(lambda sure: self._elsewhere.look(attempt, sure=sure))
        gives_signs = False
        try:
            async with contextlib.aclosing(attempt.events()) as events:
                async for event in events:
                    if isinstance(event, Started):
                        gives_signs = event.signs_of_life
                    if isinstance(event, SignOfLife) and event.draining:
                        self._elsewhere.look(attempt, stops=True)
                    else:
                        self._elsewhere.hear()
                    watch.rest()
                    yield event
                    watch.hear(event, gives_signs=gives_signs)
        finally:
            watch.stop()
            self._elsewhere.stop()
            attempt.close()
            self._cancel = bool

    def _take(self, event: GenerateEvent, resumed: _Received | None) -> Delta | None:
        """Keep what an event says; returns a delta for the caller."""
        if isinstance(event, SignOfLife):
            return None
        if isinstance(event, Started):
            self.started = self.started or event
            self._request_id = self.started.request_id
            return None
        if isinstance(event, PromptLogprobs):
            known = 1 + len(self._prompt_logprobs) - event.position
            self._prompt_logprobs += event.tokens[max(0, known) :]
            return None
        choice = resumed or self._choices[event.choice_index]
        if event.choice_index != choice.index:
            event = replace(event, choice_index=choice.index)
        if isinstance(event, Finished):
            choice.finished = _whole(event, choice)
            return None
        choice.deltas.append(event)
        return event

    def _rest_of(self, choice: _Received) -> GenerateRequest:
        """What is missing of a choice, as a request for an output of its own."""
        if self.started is None:
            return self._request
        logprobs_missing = choice.index == 0 and not choice.deltas
        return replace(
            self._request,
            model=self.started.model,
            prompt=self.started.prompt_token_ids,
            seed=self.started.choice_seeds[choice.index],
            n=1,
            sampling=self.started.sampling or self._request.sampling,
            max_tokens=self.started.max_tokens,
            truncate_prompt_tokens=None,
            output_token_ids=(*self._request.output_token_ids, *choice.token_ids),
            fingerprint=self.started.fingerprint,
            prompt_logprobs=self._request.prompt_logprobs if logprobs_missing else None,
        )

    def _check_finished(self, choices: list[_Received]) -> None:
        if any(choice.finished is None for choice in choices):
            raise Unavailable("the stream ended before it was finished")


def _whole(finished: Finished, choice: _Received) -> Finished:
    """`finished` of a stream that was resumed, perhaps: usage counts all its calls."""
    tokens = [token for delta in choice.deltas for token in delta.tokens]
    accepted = sum(token.origin is Origin.ACCEPTED for token in tokens)
    return replace(finished, usage=replace(finished.usage, speculated_tokens=accepted))
