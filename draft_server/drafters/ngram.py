"""The n-gram drafter: what followed the same tokens before comes again. No model, no weights."""

from draft_server.drafters.base import DraftContext, StreamDrafter
from draft_server.prompt_lookup import KEY_TOKENS
from draft_server.run_ahead import RunAhead
from paceline.engine.interfaces import Rows, Span, StepReport
from paceline.errors import Internal, PacelineError
from paceline.protocol.advance import Advance


class NgramDrafter(StreamDrafter):
    """One session that never wants a step."""

    def __init__(self, context: DraftContext) -> None:
        """Begin at the end of the opening's tokens."""
        self.ahead = RunAhead(context.opening)
        self._deliver = context.deliver
        self._lookup = context.recent.lookup(context.opening)

    def advance(self, advance: Advance) -> None:
        """Take an Advance."""
        self.ahead.post(advance)

    @property
    def owes(self) -> bool:
        """Nothing: it drafts at once, or not before the next Advance."""
        return False

    def close(self) -> None:
        """It has nothing else."""

    @property
    def idle(self) -> bool:
        """Whether it has work does not depend on what others do."""
        return False

    def plan(self, cached: int) -> Span | None:
        """Draft at once what the lookahead has room for; no span."""
        if not self.ahead.has_news:
            return None
        self.ahead.catch_up()
        self._lookup.commit(self.ahead.committed)
        while self.ahead.wanted_of_lookup > 0:
            proposal = self.ahead.look_up(self._lookup, KEY_TOKENS)
            self._deliver(proposal)
            self.ahead.delivered()
            if not proposal.token_ids:
                break
        return None

    def commit(self, span: Span, rows: Rows, report: StepReport) -> None:
        """Never called."""
        raise Internal("lookup asks for no step")

    def kept(self, cached: int) -> list[int]:
        """Nothing: there is no KV."""
        return []

    def fail(self, error: PacelineError) -> None:
        """Deliver the error."""
        self._deliver(error)
