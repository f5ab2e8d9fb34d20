"""What drafters are made from in tests: an engine without thread and clock, on a table model."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, cast

from draft_server.drafters.base import Deliver, DraftContext
from draft_server.prompt_lookup import RecentOutputs
from paceline.engine.interfaces import Decoder, Engine, Span, StepReport
from paceline.protocol.session import CostModel, Load, Opening
from tests.table_model import TableRunner, TokenCache


@dataclass(eq=False)
class SteppedSession:
    """A session, and the tokens of which it has KV."""

    decoder: Decoder
    cache: TokenCache = field(default_factory=TokenCache)
    closed: bool = False


class SteppedEngine:
    """As much of an Engine as drafters use. It steps when it is told to; a session is a page."""

    def __init__(self, runner: TableRunner, pages: int = 64, cost: CostModel | None = None) -> None:
        self.runner = runner
        self.pages = pages
        self.cost = cost
        self.sessions: list[SteppedSession] = []

    def open(self, decoder: Decoder, *_: object, **__: object) -> SteppedSession:
        self.sessions.append(SteppedSession(decoder))
        return self.sessions[-1]

    def close(self, session: SteppedSession) -> None:
        session.closed = True
        self.sessions.remove(session)

    @property
    def load(self) -> Load:
        used = len(self.sessions)
        return Load(used, kv_pages_used=used, kv_pages_total=self.pages)

    def step(
        self,
        longest: int = 1000,
        meanwhile: Callable[[], None] = lambda: None,
        *,
        turned: bool = False,
    ) -> bool:
        """Run a span of each session, in any order, or its head where it is longer than `longest`.

        meanwhile: what happens while they run. Returns whether there was something to run.
        """
        planned = [(session, self._plan(session)) for session in self.sessions]
        batch = [(session, span) for session, span in planned if span is not None]
        meanwhile()
        for session, span in batch[:: -1 if turned else 1]:
            if longest < len(span.token_ids):
                self.runner.forward([(session.cache, span.head(longest))])
            else:
                [logits] = self.runner.forward([(session.cache, span)])
                session.decoder.commit(span, logits, StepReport(0.0, self.load, self.cost))
        return bool(batch)

    def _plan(self, session: SteppedSession) -> Span | None:
        span = session.decoder.plan(session.cache.length)
        if span is not None:
            session.cache.truncate(span.position)
        return span


def context(
    opening: Opening,
    deliver: Deliver | Callable[[Any], None],
    engine: SteppedEngine | None = None,
    recent: RecentOutputs | None = None,
) -> DraftContext:
    """What a drafter is made from."""
    stepped = engine or SteppedEngine(TableRunner())
    return DraftContext(opening, deliver, cast("Engine", stepped), recent or RecentOutputs())
