"""Sessions on target and draft servers, as gRPC calls."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, Generic, Protocol, Self, TypeVar

import grpc

from orchestrator.backends.contract import (
    BrokenContract,
    DraftContract,
    SignsOfLife,
    TargetContract,
)
from orchestrator.backends.replica import Replica
from paceline.errors import Unavailable
from paceline.protocol.proposal import Proposal
from paceline.protocol.session import Advance, Opened, Opening
from paceline.protocol.verdict import PromptLogprobs, TimedVerdict, Verdict, Verify
from paceline.rpc.codec.session import (
    advance_to_proto,
    opened_from_proto,
    opening_to_proto,
    prompt_logprobs_from_proto,
    proposal_from_proto,
    verdict_from_proto,
    verify_to_proto,
)
from paceline.rpc.multiplex.call import SharedCall
from paceline.rpc.request_id import outgoing_metadata
from paceline.rpc.session_stream import PROGRESS_SECONDS
from paceline.rpc.status_codes import from_rpc_error
from paceline.v1 import draft_pb2, draft_pb2_grpc, session_pb2, target_pb2, target_pb2_grpc

SILENCE_SECONDS = 5.0
"""Servers say something every second; one that is silent this long is dead."""
_ANY = 2**32
_WATCH_SECONDS = 1.0
_LOOKS = 5
"""So often a read must be seen to wait: what came while the event loop stood still comes first."""
STANDSTILL_SECONDS = 60.0
"""An engine that makes no step this long, with work to do, is dead."""

Request = TypeVar("Request")
Response = TypeVar("Response")


class Call(Protocol):
    """A call, or a session on a shared one."""

    async def write(self, request: Any) -> None:
        """Send a request."""

    async def read(self) -> Any:
        """The next response, or grpc.aio.EOF; raises the AioRpcError that ended it."""

    def cancel(self) -> Any:
        """End it; who reads is cancelled."""


def _begin(
    replica: Replica,
    seconds: float,
    alone: Callable[..., Call],
    share: Callable[[], SharedCall],
    *,
    much: bool = False,
) -> Call:
    """A call for one session more on the replica.

    The first has one of its own, which takes a hop less on either side; those that come while
    others are there share one, where a message less counts for more. alone: begins the one,
    share: the other. much: more is sent than may wait for one session of many, so that it needs
    a call of its own, which holds up the server while nobody reads.
    """
    if much or not replica.sessions or not replica.takes_shared_calls:
        return alone(timeout=seconds, metadata=outgoing_metadata())
    if replica.shared_call is None or replica.shared_call.ended:
        replica.shared_call = share()
    return replica.shared_call.join()


class SessionCall(Generic[Request, Response]):
    """One session on one server; leaving the context cancels it, which frees the session."""

    def __init__(self, replica: Replica, call: Call, seconds: float) -> None:
        """`call` has just begun, for so many seconds."""
        self._replica = replica
        self._call = call
        self._seconds = seconds
        self._engine_steps = -1
        self._still = 0
        self._loop = asyncio.get_running_loop()
        self._reading_since: float | None = None
        self._looks = 0
        self._silent = False
        self._signs = SignsOfLife(self._loop.time())
        self._watch = self._look_later()

    async def __aenter__(self) -> Self:
        """Count the session."""
        self._replica.sessions += 1
        return self

    async def __aexit__(self, *_: object) -> None:
        """Cancel the call."""
        self._watch.cancel()
        self._replica.sessions -= 1
        self._call.cancel()

    def _look(self) -> None:
        """Cancel a call that has been read in vain for too long, else look again later.

        One timer a session: a timeout around each read would cost as much as the read. Looks are
        counted, not only seconds: while the event loop stands still nothing is read, and that is
        no silence. Between two looks it has turned.
        """
        since = self._reading_since
        self._looks += since is not None
        silent = since is not None and self._loop.time() - since > SILENCE_SECONDS
        if silent and self._looks > _LOOKS:
            self._silent = True
            self._call.cancel()
        else:
            self._watch = self._look_later()

    def _look_later(self) -> asyncio.TimerHandle:
        seconds = min(_WATCH_SECONDS, SILENCE_SECONDS / _LOOKS)
        return self._loop.call_later(seconds, self._look)

    async def _open(self, request: Any) -> Opened:
        request.open.timeout_seconds = self._seconds
        await self._write(request)
        response: Any = await self._read()
        if response.WhichOneof("message") != "opened":
            raise BrokenContract("it did not answer with opened")
        return opened_from_proto(response.opened)

    @property
    def _vocabulary_size(self) -> int:
        """Of the server's model."""
        return self._replica.model.vocabulary_size if self._replica.model else _ANY

    async def _write(self, request: Request) -> None:
        # When the call has ended the read says why.
        with contextlib.suppress(grpc.aio.AioRpcError, asyncio.InvalidStateError):
            await self._call.write(request)

    async def _read(self) -> Response:
        self._reading_since, self._looks = self._loop.time(), 0
        try:
            response: Any = await self._call.read()
        except asyncio.CancelledError:
            if not self._silent:
                raise
            raise Unavailable(f"the server at {self._replica.address} is silent") from None
        except grpc.aio.AioRpcError as error:
            raise from_rpc_error(error) from error
        finally:
            self._reading_since = None
        if response is grpc.aio.EOF:
            raise Unavailable(f"the server at {self._replica.address} ended the call")
        return response  # type: ignore[no-any-return]

    def _note(self, progress: session_pb2.Progress) -> None:
        """Hold the engine to its progress while an answer is due.

        By what it says, one word each PROGRESS_SECONDS: it may be read long after it was said.
        """
        self._signs.note(self._loop.time())
        if progress.engine_steps != self._engine_steps:
            self._engine_steps, self._still = progress.engine_steps, 0
            return
        self._still += 1
        if self._still * PROGRESS_SECONDS > STANDSTILL_SECONDS:
            raise Unavailable(f"the engine at {self._replica.address} stands still")


class TargetCall(SessionCall[target_pb2.VerifyRequest, target_pb2.VerifyResponse]):
    """One session on a target server."""

    def __init__(
        self,
        replica: Replica,
        seconds: float,
        on_prompt_logprobs: Callable[[PromptLogprobs], None],
        room: Callable[[], Awaitable[None]] | None = None,
    ) -> None:
        """Begin the call, with a deadline in `seconds`.

        room: waits until there is room for more prompt logprobs; None where none are asked for.
        """
        stub = target_pb2_grpc.TargetServiceStub(replica.channel)
        types = target_pb2.VerifyRequest, target_pb2.VerifySharedRequest
        call = _begin(
            replica,
            seconds,
            stub.Verify,
            lambda: SharedCall(stub.VerifyShared(), *types),
            much=room is not None,
        )
        super().__init__(replica, call, seconds)
        self._on_prompt_logprobs = on_prompt_logprobs
        self._room = room
        self._now = self._loop.time
        self._asked = self._codec = 0.0

    async def open(self, opening: Opening) -> Opened:
        """Open the session; raises what the server answers instead."""
        self._contract = TargetContract(opening, self._vocabulary_size)
        opened = await self._open(target_pb2.VerifyRequest(open=opening_to_proto(opening)))
        self._contract.check_opened(opened)
        return opened

    async def ask(self, verify: Verify) -> None:
        """Ask for verdicts."""
        started = self._now()
        self._contract.ask(verify)
        request = target_pb2.VerifyRequest(verify=verify_to_proto(verify))
        self._asked = self._now()
        self._codec = self._asked - started
        await self._write(request)

    async def verdicts(self) -> AsyncIterator[TimedVerdict]:
        """Verdicts as they come, while some are owed.

        Raises Unavailable when the server dies, BrokenContract when it says what cannot be.
        """
        while True:
            response = await self._read()
            kind = response.WhichOneof("message")
            if kind == "verdict":
                arrived = self._now()
                verdict = self._checked(response.verdict)
                codec = self._codec + self._now() - arrived
                yield TimedVerdict(verdict, arrived, self._asked, codec)
                self._still = 0
            elif kind == "prompt_logprobs":
                piece = prompt_logprobs_from_proto(response.prompt_logprobs)
                self._contract.check_prompt_logprobs(piece)
                self._on_prompt_logprobs(piece)
                if self._room is not None:
                    await self._room()
            elif kind == "progress":
                self._note(response.progress)
            else:
                raise BrokenContract(f"it says {kind or 'nothing known'} behind opened")

    def _checked(self, message: target_pb2.Verdict) -> Verdict:
        sizes = len(message.token_ids), message.verified, message.accepted, len(message.logprobs)
        self._contract.check_sizes(*sizes)
        verdict = verdict_from_proto(message)
        self._contract.check(verdict)
        return verdict


class DraftCall(SessionCall[draft_pb2.DraftRequest, draft_pb2.DraftResponse]):
    """One session on a draft server."""

    def __init__(self, replica: Replica, seconds: float, target_size: int = _ANY) -> None:
        """Begin the call, with a deadline in `seconds`. target_size: of the target's vocabulary."""
        self._target_size = target_size
        stub = draft_pb2_grpc.DraftServiceStub(replica.channel)
        types = draft_pb2.DraftRequest, draft_pb2.DraftSharedRequest
        call = _begin(replica, seconds, stub.Draft, lambda: SharedCall(stub.DraftShared(), *types))
        super().__init__(replica, call, seconds)

    async def open(self, opening: Opening) -> Opened:
        """Open the session; raises what the server answers instead."""
        self._contract = DraftContract(opening, self._target_size)
        return await self._open(draft_pb2.DraftRequest(open=opening_to_proto(opening)))

    async def advance(self, advance: Advance) -> None:
        """Commit tokens and grant a lookahead."""
        self._contract.grant(advance)
        await self._write(draft_pb2.DraftRequest(advance=advance_to_proto(advance)))

    async def proposals(self) -> AsyncIterator[Proposal]:
        """Proposals as they come.

        Raises Unavailable when the server dies, BrokenContract when it says what cannot be.
        """
        while True:
            response = await self._read()
            kind = response.WhichOneof("message")
            if kind == "proposals":
                for proposal in self._checked(response.proposals):
                    yield proposal
            elif kind == "progress":
                self._signs.note(self._loop.time())
            else:
                raise BrokenContract(f"it says {kind or 'nothing known'} behind opened")

    def _checked(self, message: draft_pb2.Proposals) -> list[Proposal]:
        sizes = (
            (one.position, len(one.token_ids), len(one.confidences)) for one in message.proposals
        )
        self._contract.check_message(sizes)
        proposals = [proposal_from_proto(one) for one in message.proposals]
        for proposal in proposals:
            self._contract.check(proposal)
        return proposals

    def note_base(self, *, known: bool) -> None:
        """Whether a proposal follows what the draft was told, or has said before."""
        self._contract.note_base(known=known)
