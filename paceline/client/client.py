"""The client: async and typed, plain values in and out."""

import itertools
import os
from collections.abc import Awaitable, Callable, Sequence
from types import TracebackType
from typing import Self, TypeVar, Unpack

import grpc

from paceline.client.access import access
from paceline.client.addresses import orchestrators
from paceline.client.connections import Connection, Connections
from paceline.client.diagnosis import NobodyThere, explained
from paceline.client.fields import RequestFields, request_with
from paceline.client.misuse import AsyncOnly
from paceline.client.request import (
    as_boolean,
    as_number,
    as_prompt,
    as_request,
    as_text,
    as_whole,
    as_wholes,
)
from paceline.client.retry import Backoff, OnLost
from paceline.client.stream import Generation
from paceline.errors import InvalidArgument, PacelineError, Unavailable
from paceline.protocol.generation import GenerateRequest, Model, Prompt
from paceline.protocol.status import Status
from paceline.rpc.codec.generation import (
    detokenize_to_proto,
    model_from_proto,
    tokenize_to_proto,
)
from paceline.rpc.codec.status import status_from_proto
from paceline.rpc.deadline import DEFAULT_SECONDS
from paceline.rpc.request_id import checked
from paceline.v1 import generation_pb2, status_pb2

CALL_SECONDS = 10.0
"""Deadline of the calls that answer at once."""
RETRIES = 12
"""Attempts beyond the first, before any token: a quarter of a minute at most."""
Answer = TypeVar("Answer")


class Client(AsyncOnly):
    """A client of one or more orchestrators, which calls go round among.

        async with Client("localhost:7070") as client:
            async for delta in client.generate("def quicksort(", max_tokens=64):
                print(delta.text, end="")

    One made at module level serves every event loop and every forked process: each has
    connections of its own, dialed at its first call. A call that finds nobody, or breaks, is
    tried again with growing pauses, within its timeout; an output goes on where it was, no token
    twice and none missing. Every method raises a subclass of paceline.errors.PacelineError.
    """

    def __init__(
        self,
        address: str,
        *,
        timeout: float = DEFAULT_SECONDS,
        retries: int = RETRIES,
        proxy: str = "",
        ca: str | os.PathLike[str] | None = None,
        certificate: str | os.PathLike[str] | None = None,
        key: str | os.PathLike[str] | None = None,
        token: str | None = None,
    ) -> None:
        """`address` is host:port, [IPv6]:port or unix:/path, or several with commas between.

        Behind grpcs:// or https:// they are reached with TLS, else in plaintext.
        timeout: seconds for an output, where generate is given none.
        retries: how often a call that nobody takes is tried again; 0 never. An output that has
        begun goes on as soon as somebody is there, within its timeout, unless this is 0.
        proxy: the HTTP proxy to connect through, http://host:port; the environment names none.
        ca: a PEM file of certificates that sign the servers'; the system's unless given.
        certificate, key: PEM files of what is shown where callers have to show one (mutual TLS).
        token: what is shown where callers have to show a token.
        """
        where = orchestrators(address)
        self.address = str(where)
        self._timeout = checked_timeout(timeout)
        self._retries = as_whole("retries", retries)
        if self._retries < 0:
            raise InvalidArgument.of("retries", retries, "at least 0")
        shown = access(ca, certificate, key, token)
        self._connections = Connections(where, as_text("proxy", proxy), shown)

    async def __aenter__(self) -> Self:
        """Nothing to wait for."""
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Close the connections."""
        await self.close()

    async def close(self) -> None:
        """Close this event loop's connections; streams under way are cancelled.

        A later call makes new ones.
        """
        await self._connections.close()

    def generate(
        self,
        prompt: GenerateRequest | Prompt | None = None,
        *,
        timeout: float | None = None,
        request_id: str | None = None,
        on_lost: OnLost | None = None,
        **fields: Unpack[RequestFields],
    ) -> Generation:
        """Ask for an output of a prompt, or of a request.

        timeout: seconds for the whole output; the client's when not given.
        request_id: what the request is called in logs; one is made when not given.
        on_lost: called with the error and the seconds that are left, once for each time that an
        output which has begun is lost, or the server is full, and it is tried again.
        fields: those of GenerateRequest and of Sampling by name, as max_tokens=4 and
        temperature=0; what is not named is as in the request, or has its default. Raises
        InvalidArgument, before anything is sent, for an unknown name, and for what has a wrong
        type or fits no message.
        """
        if request_id is not None and as_text("request_id", request_id):
            checked(request_id)
        request = as_request(request_with(prompt, fields))
        seconds = self._timeout if timeout is None else checked_timeout(timeout)
        backoff = Backoff(self._retries, seconds, on_lost)
        return Generation(self._connections, request, request_id or None, backoff)

    async def tokenize(self, prompt: Prompt, model: str = "") -> tuple[int, ...]:
        """The token ids that generate would use for `prompt`."""
        request = tokenize_to_proto(as_prompt(prompt), as_text("model", model))
        answer = await self._call(lambda to: to.generation.Tokenize(request, timeout=CALL_SECONDS))
        return tuple(answer.token_ids)

    async def detokenize(
        self, token_ids: Sequence[int], model: str = "", *, skip_special_tokens: bool = True
    ) -> str:
        """The text of `token_ids`, from what tokenize gave or an output has."""
        request = detokenize_to_proto(
            as_wholes("token_ids", token_ids),
            as_text("model", model),
            skip_special_tokens=as_boolean("skip_special_tokens", skip_special_tokens),
        )
        answer = await self._call(
            lambda to: to.generation.Detokenize(request, timeout=CALL_SECONDS)
        )
        return answer.text

    async def models(self) -> list[Model]:
        """The models that can be asked for."""
        request = generation_pb2.ListModelsRequest()
        answer = await self._call(
            lambda to: to.generation.ListModels(request, timeout=CALL_SECONDS)
        )
        return [model_from_proto(model) for model in answer.models]

    async def status(self) -> Status:
        """What the orchestrator knows of itself and of the servers it draws on."""
        request = status_pb2.GetStatusRequest()
        answer = await self._call(lambda to: to.status.GetStatus(request, timeout=CALL_SECONDS))
        return status_from_proto(answer)

    async def _call(self, ask: Callable[[Connection], Awaitable[Answer]]) -> Answer:
        """What one of the orchestrators answers at once; each is asked while none is there."""
        for asked in itertools.count(1):
            connection = await self._connections.take()
            try:
                return await ask(connection)
            except grpc.aio.AioRpcError as error:
                found = connection.error(error)
                if asked >= self._connections.count or not isinstance(found, Unavailable):
                    raise await self._told(found) from error
            finally:
                self._connections.done()
                del connection
        raise AssertionError("it returns or raises")

    async def _told(self, error: PacelineError) -> PacelineError:
        """The error, and why where nobody answers."""
        if not isinstance(error, NobodyThere):
            return error
        return explained(error, await self._connections.diagnosed(error))


def checked_timeout(seconds: object) -> float:
    """Seconds that a caller gives; InvalidArgument where they are none."""
    found = as_number("timeout", seconds)
    if not found > 0:
        raise InvalidArgument.of("timeout", seconds, "a number of seconds over 0")
    return found
