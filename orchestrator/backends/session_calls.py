"""Sessions on target and draft servers, as gRPC calls."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from types import TracebackType
from typing import Any, Generic, Protocol, Self, TypeVar

import grpc

from orchestrator.backends import liveness
from orchestrator.backends.liveness import EngineProgress, SilenceWatch
from orchestrator.backends.replica import Replica
from orchestrator.backends.server_contract import (
    BrokenContract,
    DraftContract,
    SignsOfLife,
    TargetContract,
)
from paceline.best_effort import best_effort
from paceline.errors import PacelineError, Unavailable
from paceline.protocol.advance import Advance
from paceline.protocol.proposal import Proposal
from paceline.protocol.session import Opened, Opening
from paceline.protocol.verdict import PromptLogprobs, TimedVerdict, Verdict, Verify
from paceline.rpc.codec.advance import fill_advance
from paceline.rpc.codec.proposal import proposal_from_proto
from paceline.rpc.codec.session import opened_from_proto, opening_to_proto
from paceline.rpc.codec.verdict import (
    fill_verify,
    prompt_logprobs_from_proto,
    verdict_from_proto,
)
from paceline.rpc.multiplex.call import SharedCall
from paceline.rpc.request_id import outgoing_metadata
from paceline.rpc.status_codes import from_rpc_error, is_cancelled_itself
from paceline.tracing.context import Metadata
from paceline.tracing.span import TraceSpan, current, fail_with
from paceline.v1 import draft_pb2, draft_pb2_grpc, session_pb2, target_pb2, target_pb2_grpc

_ANY = 2**32

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
    trace: Metadata = (),
) -> Call:
    """A call for one session more on the replica.

    The first session has a call of its own, which takes a hop less on either side. Sessions that
    come while others are there share a call, where fewer messages count for more. alone: begins a
    call of its own. share: begins one to share. much: more is sent than may wait for one session
    of many; it needs a call of its own, which holds up the server while nobody reads. trace: the
    context of the session's span.
    """
    if much or not replica.sessions or not replica.takes_shared_calls:
        return alone(timeout=seconds, metadata=outgoing_metadata() + trace)
    if replica.shared_call is None or replica.shared_call.ended:
        replica.shared_call = share()
    return replica.shared_call.join()


def _span(method: str, replica: Replica) -> TraceSpan:
    """Of a session on the replica."""
    attributes = {
        "rpc.system.name": "grpc", "rpc.method": method, "server.address": replica.address,
    }  # fmt: skip
    return current().begin(method, attributes, calls=True)


class SessionCall(Generic[Request, Response]):
    """One session on one server. Leaving the context cancels it, which frees the session."""

    def __init__(
        self,
        replica: Replica,
        call: Call,
        seconds: float,
        span: TraceSpan,
        *,
        answers: bool = False,
    ) -> None:
        """`call` has just begun, for so many seconds. span: its own.

        answers: as of SilenceWatch.
        """
        self.span = span
        self._replica = replica
        self._call = call
        self._seconds = seconds
        self._now = asyncio.get_running_loop().time
        self._signs = SignsOfLife(self._now())
        self.silence = SilenceWatch(call, answers=answers)

    async def __aenter__(self) -> Self:
        """Count the session."""
        self._replica.sessions += 1
        self._replica.watch.add(self.silence)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Cancel the call."""
        self._replica.watch.remove(self.silence)
        self._replica.sessions -= 1
        self._call.cancel()
        with best_effort("traces"):
            fail_with(self.span, error)
            self.span.end()

    async def _open(self, request: Any) -> Opened:
        request.open.timeout_seconds = self._seconds
        if (context := self.span.context) is not None:
            request.open.traceparent = context.traceparent
            request.open.tracestate = context.tracestate
        await self._write(request)
        try:
            response: Any = await self._read()
        except PacelineError as error:  # with which the stream may go on elsewhere
            fail_with(self.span, error)
            raise
        self.span.event("opened")
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
        self._check_silence()
        self.silence.reading()
        try:
            response: Any = await self._call.read()
        except asyncio.CancelledError:
            if is_cancelled_itself():
                raise
            self._check_silence()
            raise self._ended() from None
        except grpc.aio.AioRpcError as error:
            raise from_rpc_error(error) from error
        finally:
            self.silence.read()
        if response is grpc.aio.EOF:
            raise self._ended()
        if response is None:  # so gRPC says it
            raise BrokenContract("what it says cannot be decoded")
        return response  # type: ignore[no-any-return]

    def _check_silence(self) -> None:
        """Raise Unavailable where nothing more is expected of the server."""
        if self.silence.silent:
            raise Unavailable(f"the server at {self._replica.address} is silent")

    def _ended(self) -> Unavailable:
        return Unavailable(f"the server at {self._replica.address} ended the call")


class TargetCall(SessionCall[target_pb2.VerifyRequest, target_pb2.VerifyResponse]):
    """One session on a target server."""

    def __init__(
        self,
        replica: Replica,
        seconds: float,
        on_prompt_logprobs: Callable[[PromptLogprobs], None],
        room: Callable[[], Awaitable[None]] | None = None,
        on_waited: Callable[[], None] = lambda: None,
        on_progress: Callable[[bool], None] = lambda _: None,
    ) -> None:
        """Begin the call, with a deadline in `seconds`.

        room: waits until there is room for more prompt logprobs; None where none are asked for.
        on_waited: told, before a verdict, that the session had no KV for a while.
        on_progress: told each second without a verdict whether it still waits for KV.
        """
        span = _span("paceline.v1.TargetService/Verify", replica)
        stub = target_pb2_grpc.TargetServiceStub(replica.channel)
        types = target_pb2.VerifyRequest, target_pb2.VerifySharedRequest
        call = _begin(
            replica,
            seconds,
            stub.Verify,
            lambda: SharedCall(stub.VerifyShared(), *types),
            much=room is not None,
            trace=span.metadata,
        )
        super().__init__(replica, call, seconds, span, answers=True)
        self._on_prompt_logprobs = on_prompt_logprobs
        self._room = room
        self._on_waited = on_waited
        self._on_progress = on_progress
        self._progress = EngineProgress()
        self._asked = self._codec = 0.0

    async def open(self, opening: Opening) -> Opened:
        """Open the session; raises what the server answers instead."""
        self._contract = TargetContract(opening, self._vocabulary_size)
        opened = await self._open(target_pb2.VerifyRequest(open=opening_to_proto(opening)))
        self._contract.check_opened(opened)
        self.silence.answered()
        return opened

    async def ask(self, verify: Verify) -> None:
        """Ask for verdicts."""
        started = self._now()
        self._contract.ask(verify)
        request = target_pb2.VerifyRequest()
        fill_verify(request.verify, verify)
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
                self.silence.answered()
                verdict = self._checked(response.verdict)
                codec = self._codec + self._now() - arrived
                if verdict.waited_seconds:
                    self._on_waited()
                yield TimedVerdict(verdict, arrived, self._asked, codec)
                self._progress.answer()
            elif kind == "prompt_logprobs":
                piece = prompt_logprobs_from_proto(response.prompt_logprobs)
                self._contract.check_prompt_logprobs(piece)
                self.silence.answered()
                self._on_prompt_logprobs(piece)
                if self._room is not None:
                    await self._room()
            elif kind == "progress":
                self._note(response.progress)
            else:
                raise BrokenContract(f"it says {kind or 'nothing known'} behind opened")

    def _note(self, progress: session_pb2.Progress) -> None:
        """A sign of life, while an answer is due. Who waits for KV is owed no step."""
        self._signs.note(self._now())
        self._on_progress(progress.waiting)
        if progress.waiting:
            self._progress.answer()
            self.silence.rest()
            return
        still = self._progress.still_seconds(progress.engine_steps)
        if still > liveness.STANDSTILL_SECONDS:
            raise Unavailable(f"the engine at {self._replica.address} stands still")
        if still > liveness.DOUBTED_STANDSTILL_SECONDS:
            self.silence.doubt_engine()

    def _checked(self, message: target_pb2.Verdict) -> Verdict:
        sizes = len(message.token_ids), message.verified, message.accepted, len(message.logprobs)
        branches = message.branch_verified, message.branch_accepted
        self._contract.check_sizes(*sizes, branches)
        verdict = verdict_from_proto(message)
        self._contract.check(verdict)
        return verdict


class DraftCall(SessionCall[draft_pb2.DraftRequest, draft_pb2.DraftResponse]):
    """One session on a draft server."""

    def __init__(self, replica: Replica, seconds: float, target_size: int = _ANY) -> None:
        """Begin the call, with a deadline in `seconds`. target_size: of the target's vocabulary."""
        self._target_size = target_size
        span = _span("paceline.v1.DraftService/Draft", replica)
        stub = draft_pb2_grpc.DraftServiceStub(replica.channel)
        types = draft_pb2.DraftRequest, draft_pb2.DraftSharedRequest
        call = _begin(
            replica,
            seconds,
            stub.Draft,
            lambda: SharedCall(stub.DraftShared(), *types),
            trace=span.metadata,
        )
        super().__init__(replica, call, seconds, span)
        self.silence.on_late = self.silence.give_up
        self._doubted = False

    async def open(self, opening: Opening) -> Opened:
        """Open the session; raises what the server answers instead."""
        self._contract = DraftContract(opening, self._target_size)
        return await self._open(draft_pb2.DraftRequest(open=opening_to_proto(opening)))

    async def advance(self, advance: Advance) -> None:
        """Commit tokens and grant a lookahead."""
        self._contract.grant(advance)
        request = draft_pb2.DraftRequest()
        fill_advance(request.advance, advance)
        await self._write(request)

    async def proposals(self) -> AsyncIterator[Proposal]:
        """Proposals as they come.

        Raises Unavailable when the server dies, BrokenContract when it says what cannot be.
        """
        while True:
            response = await self._read()
            kind = response.WhichOneof("message")
            if kind == "proposals":
                if self._doubted:
                    self._doubted = False
                    self.silence.forgive()
                for proposal in self._checked(response.proposals):
                    yield proposal
            elif kind == "progress":
                self._signs.note(self._now())
            else:
                raise BrokenContract(f"it says {kind or 'nothing known'} behind opened")

    def _checked(self, message: draft_pb2.Proposals) -> list[Proposal]:
        sizes = [
            (
                one.position,
                len(one.token_ids),
                len(one.confidences),
                len(one.second_token_ids),
            )
            for one in message.proposals
        ]
        self._contract.check_message(sizes)
        proposals = [proposal_from_proto(one) for one in message.proposals]
        for proposal in proposals:
            self._contract.check(proposal)
        return proposals

    def doubt(self) -> None:
        """Draft tokens may never come: give the call up where its server is silent altogether.

        The stream goes on without it, and then with another one.
        """
        if not self._doubted:
            self._doubted = True
            self.silence.expect()

    def note_base(self, *, known: bool) -> None:
        """Whether a proposal follows what the draft was told, or has said before."""
        self._contract.note_base(known=known)
