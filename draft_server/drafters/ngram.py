"""The n-gram drafter: draft tokens what followed the same tokens before. No model, no weights."""

from collections.abc import Callable

from draft_server.prompt_lookup import KEY_TOKENS, PromptLookup
from draft_server.run_ahead import RunAhead
from paceline.engine.interfaces import Logits, Span, StepReport
from paceline.errors import Internal, PacelineError
from paceline.protocol.proposal import Proposal
from paceline.protocol.session import Advance, Opening

Deliver = Callable[[Proposal | PacelineError], None]


class NgramDrafter:
    """One session: a Decoder that never wants a step."""

    def __init__(self, opening: Opening, deliver: Deliver, lookup: PromptLookup) -> None:
        """`deliver` takes proposals; one without tokens says that none will come."""
        self._deliver = deliver
        self._lookup = lookup
        self.ahead = RunAhead(opening)

    def advance(self, advance: Advance) -> None:
        """Take an Advance, on any thread; InvalidArgument when it leaves a gap or overlaps."""
        self.ahead.post(advance)

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

    def commit(self, span: Span, logits: Logits, report: StepReport) -> None:
        """Never called."""
        raise Internal("lookup asks for no step")

    def kept(self, cached: int) -> list[int]:
        """Nothing: there is no KV."""
        return []

    def fail(self, error: PacelineError) -> None:
        """Deliver the error."""
        self._deliver(error)
