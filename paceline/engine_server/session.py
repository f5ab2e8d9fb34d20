"""One session of a stream in the engine: requests go to its decoder, its items to the outbox."""

import asyncio
import functools
import math
from collections.abc import Callable, Sequence
from typing import Any, Generic, TypeVar

import structlog

from paceline.engine.interfaces import Decoder, Engine, OpenSession
from paceline.engine.target_ids import target_ids
from paceline.errors import Unavailable
from paceline.protocol.session import Opening, Progress
from paceline.rpc.session_stream import Deliveries, Outbox

_log = structlog.get_logger(__name__)

UNUSED_SECONDS = 120.0
"""A session that owes nothing, and is asked for nothing for so long, gives its KV back."""

DecoderType = TypeVar("DecoderType", bound=Decoder)


class ServedSession(Generic[DecoderType]):
    """A decoder in the engine, and the outbox of what it delivers."""

    def __init__(
        self,
        engine: Engine,
        deliveries: Deliveries,
        opening: Opening,
        make_decoder: Callable[[Opening, Callable[[Any], None]], DecoderType],
        more_to_come: Callable[[DecoderType], bool],
        owes: Callable[[DecoderType], bool],
    ) -> None:
        """Open it, by `opening`; the functions are those of EngineServer.run_session."""
        self._engine = engine
        self._more_to_come = more_to_come
        self._owes = owes
        self._now = asyncio.get_running_loop().time
        self._used = self._now()
        self.outbox: Outbox[Any] = Outbox(self._joined_in)
        self._decoder = make_decoder(opening, functools.partial(deliveries.deliver, self.outbox))
        self._session = self._open(opening)

    def _open(self, opening: Opening) -> OpenSession:
        tokens = opening.prompt_token_ids + opening.output_token_ids
        resumes = bool(opening.output_token_ids)
        session = self._engine.open(
            self._decoder,
            target_ids(opening.vocabulary).to_draft(tokens),
            opening.max_length,
            resumes=resumes,
            # Logprobs of the prompt need logits of all its tokens: no KV is shared.
            salt=opening.cache_salt if opening.prompt_logprobs is None else None,
            priority=opening.priority,
            has_room=self.outbox.has_room,
            waits=not opening.no_wait,
        )
        _log.info("session opened", resumes=resumes)
        return session

    def _joined_in(self) -> float:
        """Seconds until more comes that what waits in the outbox may share a message with."""
        return self._engine.pace if self._more_to_come(self._decoder) else math.inf

    def handle(self, post: Callable[[DecoderType, Any], Sequence[float]], request: Any) -> None:
        """Have `post` hand the request to the decoder, and the engine ask that again."""
        self._used = self._now()
        self.outbox.expect_within(post(self._decoder, request))
        self._engine.wake(self._session)

    def note_sent(self) -> None:
        """What was in the outbox has gone: have the engine go on where it waited for that."""
        if self.outbox.made_room():
            self._engine.wake(self._session)

    def check_used(self) -> None:
        """Raise Unavailable where it has been of no use for UNUSED_SECONDS: others want its KV."""
        if self._owes(self._decoder):
            self._used = self._now()
        elif self._now() - self._used > UNUSED_SECONDS:
            what = f"the session was asked for nothing for {UNUSED_SECONDS:g} s"
            raise Unavailable(f"{what}, and gives its KV back; open another one")

    @property
    def progress(self) -> Progress:
        """How far it is, for a stream that has had nothing else to say."""
        session = self._session
        return Progress(
            self._engine.steps, session.cached_tokens, self._engine.load, session.waiting
        )

    def close(self) -> None:
        """Free it before the next step."""
        self._engine.close(self._session)
