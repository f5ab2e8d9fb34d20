"""Sessions of requests on a draft server, on a thread of their own: advice, never an error.

Whoever asks for drafts gets what is there. A draft that is slow, dead or of another vocabulary is
one that has none; it is dialed again for the next request.
"""

import asyncio
import contextlib
import threading
import time
from collections.abc import AsyncIterator, Container, Sequence
from dataclasses import dataclass, field
from typing import Any

import grpc
import structlog

from paceline.errors import in_a_line
from paceline.protocol.sampling import SamplingParams
from paceline.protocol.session import Opening
from paceline.rpc.channels import open_channel
from paceline.rpc.codec.advance import advance_to_proto
from paceline.rpc.codec.proposal import proposal_from_proto
from paceline.rpc.codec.session import opening_to_proto
from paceline.rpc.options import DRAFT_ANSWER_BYTES
from paceline.v1 import draft_pb2, draft_pb2_grpc, model_pb2, model_pb2_grpc
from paceline.vllm.drafted_path import DraftedPath

_log = structlog.get_logger(__name__)

SECONDS = 600.0
"""Longest that a session lives."""
INFO_SECONDS = 5.0
"""Within which a draft server says what it is."""


@dataclass(eq=False, slots=True)
class _Session:
    """A request's session. told: is set when there is something to tell the draft."""

    opening: Opening
    path: DraftedPath
    told: asyncio.Event = field(default_factory=asyncio.Event)
    task: "asyncio.Task[None] | None" = None


class RemoteDrafts:
    """Drafts of one server. All methods may be called on any thread, and none waits long."""

    def __init__(self, address: str, vocabulary_size: int, most: int) -> None:
        """address: host:port or unix:/path. most: draft tokens that one step verifies."""
        self._address, self._vocabulary_size, self._most = address, vocabulary_size, most
        self._sessions: dict[str, _Session] = {}
        self._lock = threading.Lock()  # holds the paths
        self._came = threading.Condition(self._lock)
        self._loop = asyncio.new_event_loop()
        self._channel: grpc.aio.Channel | None = None
        self._thread = threading.Thread(target=self._work, name="remote-drafts", daemon=True)
        self._thread.start()

    def begin(
        self, name: str, prompt: Sequence[int], max_tokens: int, stop: frozenset[int]
    ) -> None:
        """A request has come; its draft begins to read the prompt."""
        greedy = SamplingParams(temperature=0.0)
        opening = Opening(
            name[:128], tuple(prompt), greedy, 0, max(max_tokens, 1), stop_token_ids=stop
        )
        session = _Session(opening, DraftedPath(prompt, 2 * self._most))
        with self._lock:
            self._sessions[name] = session
        self._loop.call_soon_threadsafe(self._open, session)

    def commit(self, name: str, tokens: Sequence[int]) -> None:
        """Tokens were decided."""
        with self._lock:
            session = self._sessions.get(name)
            if session is None:
                return
            session.path.commit(tokens)
        self._loop.call_soon_threadsafe(session.told.set)

    def take(self, name: str, length: int) -> list[int]:
        """Draft tokens behind the request's first `length` tokens, as far as they are here."""
        with self._lock:
            session = self._sessions.get(name)
            return session.path.drafts(length, self._most) if session else []

    def wait(self, wanted: Sequence[tuple[str, int]], seconds: float) -> None:
        """Wait until one of these requests, with its length, has drafts; at most so long."""
        until = time.monotonic() + seconds
        with self._came:
            while (left := until - time.monotonic()) > 0 and not any(
                name in self._sessions and self._sessions[name].path.drafts(length, 1)
                for name, length in wanted
            ):
                self._came.wait(left)

    def keep(self, names: Container[str]) -> None:
        """All other requests are over."""
        with self._lock:
            ended = [name for name in self._sessions if name not in names]
            sessions = [self._sessions.pop(name) for name in ended]
        for session in sessions:
            self._loop.call_soon_threadsafe(_cancel, session)

    def stop(self) -> None:
        """End all sessions, and the thread."""
        self.keep(())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()

    def _work(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.run_forever()
        self._loop.run_until_complete(self._end())
        self._loop.run_until_complete(self._loop.shutdown_asyncgens())
        self._loop.close()

    async def _end(self) -> None:
        """Nothing is left running on the thread."""
        tasks = asyncio.all_tasks() - {asyncio.current_task()}
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if self._channel is not None:
            await self._channel.close()

    def _open(self, session: _Session) -> None:
        session.task = self._loop.create_task(self._run(session))

    async def _run(self, session: _Session) -> None:
        try:
            if self._channel is None:
                self._channel = open_channel(self._address, answer_bytes=DRAFT_ANSWER_BYTES)
            channel = self._channel
            await self._check_vocabulary(channel)
            stub: Any = draft_pb2_grpc.DraftServiceStub(channel)
            call = stub.Draft(self._requests(session), timeout=SECONDS)
            async for response in call:
                self._take(session, response)
        except asyncio.CancelledError:
            raise
        except Exception as error:
            details = error.details() if isinstance(error, grpc.aio.AioRpcError) else None
            reason = details or in_a_line(error)
            _log.warning("no drafts for a request", address=self._address, reason=reason)

    async def _check_vocabulary(self, channel: grpc.aio.Channel) -> None:
        stub: Any = model_pb2_grpc.ModelServiceStub(channel)
        info = await stub.GetModelInfo(model_pb2.GetModelInfoRequest(), timeout=INFO_SECONDS)
        size = info.model.vocabulary_size
        if info.model.vocabulary_hash and size > self._vocabulary_size:  # lookup has none
            raise ValueError(
                f"its vocabulary has {size} tokens, and the target's {self._vocabulary_size}"
            )

    async def _requests(self, session: _Session) -> AsyncIterator[draft_pb2.DraftRequest]:
        yield draft_pb2.DraftRequest(open=opening_to_proto(session.opening))
        session.told.set()
        while await session.told.wait():
            session.told.clear()
            with self._lock:
                advance = session.path.advance()
            yield draft_pb2.DraftRequest(advance=advance_to_proto(advance))

    def _take(self, session: _Session, response: draft_pb2.DraftResponse) -> None:
        proposals = [proposal_from_proto(one) for one in response.proposals.proposals]
        with self._came:
            for proposal in proposals:
                if all(token < self._vocabulary_size for token in proposal.token_ids):
                    session.path.propose(proposal)
            self._came.notify_all()


def _cancel(session: _Session) -> None:
    if session.task is not None:
        with contextlib.suppress(RuntimeError):
            session.task.cancel()
