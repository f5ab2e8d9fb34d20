"""The client for programs without an event loop, or in one's way: the async one, on a thread."""

import asyncio
import atexit
import contextlib
import os
import weakref
from collections.abc import Generator, Sequence
from types import TracebackType
from typing import Any, Self, Unpack

from paceline.client import misuse
from paceline.client.client import RETRIES, Client
from paceline.client.deltas import SyncDeltas
from paceline.client.fields import RequestFields
from paceline.client.loop_thread import LoopThread
from paceline.client.result import Result
from paceline.client.retry import OnLost
from paceline.client.stream import Generation
from paceline.protocol.generation import Delta, Finished, GenerateRequest, Model, Prompt, Started
from paceline.protocol.status import Status
from paceline.rpc.deadline import DEFAULT_SECONDS


class SyncClient(misuse.SyncOnly):
    """A client of one or more orchestrators; as Client, without async.

    with SyncClient("localhost:7070") as client:
        for delta in client.generate("def quicksort(", max_tokens=64):
            print(delta.text, end="")

    Any thread may call it, one with a running event loop, as in a notebook, too.
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
        """As Client."""
        self._client = Client(
            address,
            timeout=timeout,
            retries=retries,
            proxy=proxy,
            ca=ca,
            certificate=certificate,
            key=key,
            token=token,
        )
        self._thread = LoopThread(self._client.close)
        _clients.add(self)

    def __enter__(self) -> Self:
        """Nothing to wait for."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Close the connections."""
        self.close()

    def close(self) -> None:
        """Close the connections; streams under way are cancelled. A later call makes new ones."""
        self._thread.rest()

    def generate(
        self,
        prompt: GenerateRequest | Prompt | None = None,
        *,
        timeout: float | None = None,
        request_id: str | None = None,
        on_lost: OnLost | None = None,
        **fields: Unpack[RequestFields],
    ) -> "SyncGeneration":
        """As Client.generate; on_lost is called on the client's thread."""
        generation = self._client.generate(
            prompt, timeout=timeout, request_id=request_id, on_lost=on_lost, **fields
        )
        return SyncGeneration(generation, self._thread)

    def tokenize(self, prompt: Prompt, model: str = "") -> tuple[int, ...]:
        """As Client.tokenize."""
        return self._thread.run(self._client.tokenize(prompt, model))

    def detokenize(
        self, token_ids: Sequence[int], model: str = "", *, skip_special_tokens: bool = True
    ) -> str:
        """As Client.detokenize."""
        return self._thread.run(
            self._client.detokenize(token_ids, model, skip_special_tokens=skip_special_tokens)
        )

    def models(self) -> list[Model]:
        """As Client.models."""
        return self._thread.run(self._client.models())

    def status(self) -> Status:
        """As Client.status."""
        return self._thread.run(self._client.status())


class SyncGeneration(misuse.ReadByFor):
    """As Generation, without async."""

    def __init__(self, generation: Generation, thread: LoopThread) -> None:
        """Runs on the client's loop."""
        self._generation = generation
        self._thread = thread

    def __enter__(self) -> Self:
        """Nothing to wait for."""
        return self

    def __exit__(self, *_: object) -> None:
        """Cancel what has not come yet."""
        self.cancel()

    @property
    def started(self) -> Started | None:
        """As Generation.started."""
        return self._generation.started

    @property
    def finished(self) -> Finished | None:
        """As Generation.finished."""
        return self._generation.finished

    def cancel(self) -> None:
        """As Generation.cancel."""
        self._thread.call_soon(self._generation.cancel)

    def __iter__(self) -> SyncDeltas:
        """Deltas as they come; leaving the loop early, by Ctrl-C too, cancels the rest."""
        return SyncDeltas(self._deltas(), self._generation.is_whole)

    def _deltas(self) -> Generator[Delta, None, None]:
        with self._thread.held() as loop:
            steps = _Steps(self._generation)
            try:
                while (delta := self._thread.run(steps.following(), loop)) is not None:
                    yield delta
            finally:
                self._thread.finish(loop, steps.closing())

    def result(self) -> Result:
        """Wait for the whole output; Ctrl-C cancels it."""
        return self._thread.run(self._generation.result())


class _Steps:
    """A stream, a delta at a time, on the client's loop."""

    def __init__(self, generation: Generation) -> None:
        self._generation = generation
        self._deltas: Any = aiter(generation)
        self._waiting: asyncio.Task[Any] | None = None

    async def following(self) -> Delta | None:
        """The next delta; None at the end."""
        self._waiting = asyncio.current_task()
        return await anext(self._deltas, None)

    async def closing(self) -> None:
        """Cancel what is left, a delta that is waited for too."""
        if self._waiting is not None and not self._waiting.done():
            self._waiting.cancel()
            await asyncio.wait({self._waiting})
        with contextlib.suppress(RuntimeError):  # it is about to run, and will be cancelled
            await self._deltas.aclose()


_clients: "weakref.WeakSet[SyncClient]" = weakref.WeakSet()


@atexit.register
def _close_all() -> None:
    """Before the interpreter takes their threads away, so that no stream waits for one."""
    for client in list(_clients):
        client.close()
