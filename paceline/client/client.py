"""The client: async and typed, plain values in and out."""

from collections.abc import Sequence
from types import TracebackType
from typing import Self

import grpc

from paceline.addresses import checked_target
from paceline.client.retry import Backoff
from paceline.client.stream import Generation
from paceline.errors import PacelineError, Unavailable
from paceline.protocol.generation import GenerateRequest, Model, Prompt
from paceline.protocol.status import Status
from paceline.rpc.channels import open_channel
from paceline.rpc.codec.generation import (
    detokenize_to_proto,
    model_from_proto,
    prompt_to_proto,
)
from paceline.rpc.codec.status import status_from_proto
from paceline.rpc.request_id import checked
from paceline.rpc.status_codes import from_rpc_error
from paceline.v1 import generation_pb2, generation_pb2_grpc, status_pb2, status_pb2_grpc

CALL_SECONDS = 10.0
"""Deadline of the calls that answer at once."""
RETRIES = 6
"""Attempts beyond the first, without a token between: half a minute at most."""


class Client:
    """A connection to an orchestrator.

        async with Client("localhost:7070") as client:
            async for delta in client.generate("def quicksort("):
                print(delta.text, end="")

    A call that finds nobody, or breaks, is tried again with growing pauses, within its
    timeout; an output goes on where it was, no token twice and none missing. Every method
    raises a subclass of paceline.errors.PacelineError.
    """

    def __init__(self, address: str, *, retries: int = RETRIES, proxy: str = "") -> None:
        """`address` is host:port, [IPv6]:port or unix:/path. Connects at the first call.

        retries: how often in a row a call is tried again; 0 never.
        proxy: the HTTP proxy to connect through, http://host:port; the environment names none.
        """
        self.address = checked_target(address)
        self._retries = retries
        self._channel = open_channel(self.address, proxy)
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
    ) -> Generation:
        """Ask for an output; text alone is a request with defaults.

        timeout: seconds for the whole output; without one the server's own holds.
        request_id: what the request is called in logs; one is made when not given. Raises
        InvalidArgument for one that no call can carry.
        """
        if request_id:
            checked(request_id)
        if isinstance(request, str):
            request = GenerateRequest(request)
        backoff = Backoff(self._retries, timeout)
        return Generation(self._stub, request, request_id, backoff, self._error)

    async def tokenize(self, prompt: Prompt, model: str = "") -> tuple[int, ...]:
        """The token ids that generate would use for `prompt`."""
        request = generation_pb2.TokenizeRequest(model=model, prompt=prompt_to_proto(prompt))
        try:
            answer = await self._stub.Tokenize(request, timeout=CALL_SECONDS)
        except grpc.aio.AioRpcError as error:
            raise self._error(error) from error
        return tuple(answer.token_ids)

    async def detokenize(
        self, token_ids: Sequence[int], model: str = "", *, skip_special_tokens: bool = True
    ) -> str:
        """The text of `token_ids`, from what tokenize gave or an output has."""
        request = detokenize_to_proto(token_ids, model, skip_special_tokens=skip_special_tokens)
        try:
            answer = await self._stub.Detokenize(request, timeout=CALL_SECONDS)
        except grpc.aio.AioRpcError as error:
            raise self._error(error) from error
        return answer.text

    async def models(self) -> list[Model]:
        """The models that can be asked for."""
        request = generation_pb2.ListModelsRequest()
        try:
            answer = await self._stub.ListModels(request, timeout=CALL_SECONDS)
        except grpc.aio.AioRpcError as error:
            raise self._error(error) from error
        return [model_from_proto(model) for model in answer.models]

    async def status(self) -> Status:
        """What the orchestrator knows of itself and of the servers it draws on."""
        stub = status_pb2_grpc.StatusServiceStub(self._channel)
        try:
            answer = await stub.GetStatus(status_pb2.GetStatusRequest(), timeout=CALL_SECONDS)
        except grpc.aio.AioRpcError as error:
            raise self._error(error) from error
        return status_from_proto(answer)

    def _error(self, error: grpc.aio.AioRpcError) -> PacelineError:
        """The server's error; when there is no server, one that says so."""
        found = from_rpc_error(error)
        if isinstance(found, Unavailable) and str(found).startswith("failed to connect"):
            return Unavailable(f"nobody answers at {self.address}: {found}")
        return found
