"""The client: async and typed, plain values in and out."""

from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING, Self

import grpc

from paceline.errors import Internal, PacelineError, Unavailable
from paceline.generation import (
    Delta,
    Finished,
    GenerateEvent,
    GenerateRequest,
    Model,
    Prompt,
    Started,
)
from paceline.rpc.channels import open_channel
from paceline.rpc.generation_codec import (
    event_from_proto,
    model_from_proto,
    prompt_to_proto,
    request_to_proto,
)
from paceline.rpc.status import from_rpc_error
from paceline.v1 import generation_pb2, generation_pb2_grpc

if TYPE_CHECKING:  # gRPC's own classes cannot be subscripted when the program runs
    _Call = grpc.aio.UnaryStreamCall[
        generation_pb2.GenerateRequest, generation_pb2.GenerateResponse
    ]

CALL_SECONDS = 10.0
"""Deadline of the calls that answer at once."""


class Client:
    """A connection to an orchestrator.

        async with Client("localhost:7070") as client:
            async for delta in client.generate(GenerateRequest("def quicksort(")):
                print(delta.text, end="")

    Every method raises a subclass of paceline.errors.PacelineError.
    """

    def __init__(self, address: str) -> None:
        """`address` is host:port or unix:/path. Connects at the first call."""
        self._address = address
        self._channel = open_channel(address)
        self._stub = generation_pb2_grpc.GenerationServiceStub(self._channel)

    async def __aenter__(self) -> Self:
        """Nothing to wait for."""
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Close the connection."""
        await self.close()

    async def close(self) -> None:
        """Close the connection; streams under way are cancelled."""
        await self._channel.close()

    def generate(
        self,
        request: GenerateRequest | str,
        *,
        timeout: float | None = None,
        request_id: str | None = None,
    ) -> "Generation":
        """Ask for an output; text alone is a request with defaults.

        timeout: seconds for the whole output; without one the server's own holds.
        request_id: what the request is called in logs; one is made when not given.
        """
        if isinstance(request, str):
            request = GenerateRequest(request)
        metadata = (("x-request-id", request_id),) if request_id else ()
        call = self._stub.Generate(request_to_proto(request), timeout=timeout, metadata=metadata)
        return Generation(call, self._error)

    def _error(self, error: grpc.aio.AioRpcError) -> PacelineError:
        """The server's error; when there is no server, one that says so."""
        found = from_rpc_error(error)
        if isinstance(found, Unavailable) and str(found).startswith("failed to connect"):
            return Unavailable(f"nobody answers at {self._address}: {found}")
        return found

    async def tokenize(self, prompt: Prompt, model: str = "") -> tuple[int, ...]:
        """The token ids that generate would use for `prompt`."""
        request = generation_pb2.TokenizeRequest(model=model, prompt=prompt_to_proto(prompt))
        try:
            answer = await self._stub.Tokenize(request, timeout=CALL_SECONDS)
        except grpc.aio.AioRpcError as error:
            raise self._error(error) from error
        return tuple(answer.token_ids)

    async def models(self) -> list[Model]:
        """The models that can be asked for."""
        request = generation_pb2.ListModelsRequest()
        try:
            answer = await self._stub.ListModels(request, timeout=CALL_SECONDS)
        except grpc.aio.AioRpcError as error:
            raise self._error(error) from error
        return [model_from_proto(model) for model in answer.models]


class Generation:
    """One output under way: iterate over its deltas. What came beside them stays here.

    started: set before the first delta. finished: set when the deltas have ended.
    """

    def __init__(
        self, call: "_Call", explain: Callable[[grpc.aio.AioRpcError], PacelineError]
    ) -> None:
        """`call` has just begun; `explain` makes our errors of its own."""
        self._call = call
        self._explain = explain
        self.started: Started | None = None
        self.finished: Finished | None = None

    def cancel(self) -> None:
        """Stop; the servers free what they hold for it."""
        self._call.cancel()

    async def __aiter__(self) -> AsyncIterator[Delta]:
        """Deltas as they come; leaving the loop early cancels the rest."""
        try:
            async for response in self._call:
                event: GenerateEvent = event_from_proto(response)
                if isinstance(event, Delta):
                    yield event
                elif isinstance(event, Started):
                    self.started = event
                else:
                    self.finished = event
        except grpc.aio.AioRpcError as error:
            raise self._explain(error) from error
        finally:
            self._call.cancel()
        if self.finished is None:
            raise Internal("the stream ended before it was finished")

    async def result(self) -> "Result":
        """Wait for the whole output."""
        deltas = [delta async for delta in self]
        if self.started is None or self.finished is None:
            raise Internal("the stream ended before it was finished")
        return Result(self.started, tuple(deltas), self.finished)


@dataclass(frozen=True, slots=True)
class Result:
    """A whole output."""

    started: Started
    deltas: tuple[Delta, ...]
    finished: Finished

    @property
    def text(self) -> str:
        """The output's text."""
        return "".join(delta.text for delta in self.deltas)

    @property
    def token_ids(self) -> tuple[int, ...]:
        """The output's tokens."""
        return tuple(token.id for delta in self.deltas for token in delta.tokens)
