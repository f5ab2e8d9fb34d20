"""The model drafter: a small model that drafts one token a step."""

from draft_server.drafters.base import DraftContext, StreamDrafter
from draft_server.drafters.branches import BranchSessions
from draft_server.drafters.sampling import DraftSampler
from draft_server.run_ahead import RunAhead
from paceline.engine.interfaces import Rows, Span, StepReport
from paceline.errors import PacelineError
from paceline.protocol.advance import Advance
from paceline.protocol.proposal import Proposal


class ModelDrafter(StreamDrafter):
    """One session of a draft model, which runs ahead within its lookahead, and its branches."""

    def __init__(self, context: DraftContext) -> None:
        """Begin at the end of the opening's tokens."""
        opening = context.opening
        self.ahead = RunAhead(opening)
        self._deliver = context.deliver
        self._sampler = DraftSampler(opening)
        self._branches = BranchSessions(context, self.ahead, self._sampler)
        self._prompt_is_cached = False  # in KV, to be copied for branches
        self._history = context.history(opening.output_token_ids)
        self._same = 0  # leading tokens for which KV, as far as it goes, is right

    def advance(self, advance: Advance) -> None:
        """Take an Advance, and have sessions for as many branches as it grants."""
        self.ahead.post(advance)
        if self._prompt_is_cached:
            self._branches.open(advance.branches)

    @property
    def owes(self) -> bool:
        """Whether it has room to draft in."""
        return self.ahead.wanted > 0

    def close(self) -> None:
        """Free the sessions for branches."""
        self._branches.close()

    @property
    def idle(self) -> bool:
        """Whether it has work does not depend on what others do."""
        return False

    def plan(self, cached: int) -> Span | None:
        """The tokens not in KV yet, when the lookahead has room for a draft token."""
        self._catch_up()
        if self.ahead.wanted <= 0:
            return None
        tokens = self.ahead.tokens
        start = min(cached, self._same, len(tokens) - 1)
        self._same = len(tokens)
        self._history.expect()
        return self._sampler.span(start, tokens, self._history)

    def commit(self, span: Span, rows: Rows, report: StepReport) -> None:
        """Draft the next token, unless the path has left the one it follows."""
        end = span.position + len(span.token_ids)
        self._prompt_is_cached = True
        self.ahead.observe_cost(report.cost_model)
        self._catch_up()
        if self._same < end or len(self.ahead.tokens) > end:
            return
        token = self._sampler.pick(rows[0], self._history)
        self._history.append(token.id)
        self._hand_out(self.ahead.propose((token,)))

    def kept(self, cached: int) -> tuple[int, ...]:
        """Committed tokens and draft tokens in KV."""
        return self._sampler.model_ids(self.ahead.tokens[: min(cached, self._same)])

    def fail(self, error: PacelineError) -> None:
        """Deliver the error."""
        self._deliver(error)

    def _catch_up(self) -> None:
        unchanged = self.ahead.catch_up()
        self._same = min(self._same, unchanged)
        self._history.truncate(unchanged)
        for token in self.ahead.tokens[len(self._history) :]:
            self._history.append(token)
        if taken := self.ahead.taken_branch():
            self._hand_out(taken)

    def _hand_out(self, proposal: Proposal) -> None:
        """Deliver the last draft tokens of the path."""
        self._deliver(proposal)
        self.ahead.delivered()
