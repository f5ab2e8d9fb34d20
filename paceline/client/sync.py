"""The client for programs without an event loop: the async one, on a thread of its own."""

import asyncio
import threading
from collections.abc import Coroutine, Iterator, Sequence
from types import TracebackType
from typing import Any, Self, TypeVar

from paceline.client.client import RETRIES, Client
from paceline.client.result import Result
from paceline.client.stream import Generation
from paceline.protocol.generation import Delta, Finished, GenerateRequest, Model, Prompt, Started
from paceline.protocol.status import Status

Value = TypeVar("Value")


class SyncClient:
    """A connection to an orchestrator; as Client, without async.

    with SyncClient("localhost:7070") as client:
        for delta in client.generate("def quicksort("):
            print(delta.text, end="")
    """

    def __init__(self, address: str, *, retries: int = RETRIES, proxy: str = "") -> None:
        """As Client."""
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(
            target=self._loop.run_forever, name="paceline-client", daemon=True
        )
        self._thread.start()
        self._client = self._run(_make(address, retries, proxy))

    def __enter__(self) -> Self:
        """Nothing to wait for."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Close the connection."""
        self.close()

    def close(self) -> None:
        """Close the connection; streams under way are cancelled. Closing twice does nothing."""
        if self._loop.is_closed():
            return
        self._run(self._client.close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def generate(
        self,
        request: GenerateRequest | str,
        *,
        timeout: float | None = None,
        request_id: str | None = None,
    ) -> "SyncGeneration":
        """As Client.generate."""
        generation = self._client.generate(request, timeout=timeout, request_id=request_id)
        return SyncGeneration(generation, self)

    def tokenize(self, prompt: Prompt, model: str = "") -> tuple[int, ...]:
        """As Client.tokenize."""
        return self._run(self._client.tokenize(prompt, model))

    def detokenize(
        self, token_ids: Sequence[int], model: str = "", *, skip_special_tokens: bool = True
    ) -> str:
        """As Client.detokenize."""
        return self._run(
            self._client.detokenize(token_ids, model, skip_special_tokens=skip_special_tokens)
        )

    def models(self) -> list[Model]:
        """As Client.models."""
        return self._run(self._client.models())

    def status(self) -> Status:
        """As Client.status."""
        return self._run(self._client.status())

    def _run(self, work: Coroutine[Any, Any, Value]) -> Value:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result()


class SyncGeneration:
    """As Generation, without async."""

    def __init__(self, generation: Generation, client: SyncClient) -> None:
        """Runs on the client's loop."""
        self._generation = generation
        self._client = client

    @property
    def started(self) -> Started | None:
        """As Generation.started."""
        return self._generation.started

    @property
    def finished(self) -> Finished | None:
        """As Generation.finished."""
        return self._generation.finished

    def __iter__(self) -> Iterator[Delta]:
        """Deltas as they come; leaving the loop early cancels the rest."""
        deltas: Any = aiter(self._generation)
        waiting: asyncio.Task[Any] | None = None

        async def following() -> Delta | None:
            nonlocal waiting
            waiting = asyncio.current_task()
            return await anext(deltas, None)

        async def closing() -> None:
            if waiting is not None and not waiting.done():  # Ctrl-C came meanwhile
                waiting.cancel()
                await asyncio.wait({waiting})
            await deltas.aclose()

        try:
            while (delta := self._client._run(following())) is not None:
                yield delta
        finally:
            self._client._run(closing())

    def result(self) -> Result:
        """Wait for the whole output."""
        return self._client._run(self._generation.result())


async def _make(address: str, retries: int, proxy: str) -> Client:
    """A client of the running loop."""
    return Client(address, retries=retries, proxy=proxy)
