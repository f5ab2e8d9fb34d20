"""The model drafter: a small model that drafts one token a step."""

from collections.abc import Callable

from draft_server.run_ahead import RunAhead
from paceline.engine.interfaces import Logits, Span, StepReport
from paceline.engine.sampling.history import History
from paceline.engine.sampling.sampler import pick_with_second
from paceline.engine.target_ids import target_ids
from paceline.errors import PacelineError
from paceline.protocol.proposal import DraftToken, Proposal
from paceline.protocol.session import Advance, Opening

Deliver = Callable[[Proposal | PacelineError], None]


class ModelDrafter:
    """One session of a draft model: a Decoder that runs ahead within its lookahead.

    It follows the target's sampler with the target's noise, penalties and stop tokens, so
    that a model which agrees with the target drafts what the target will pick.
    """

    def __init__(self, opening: Opening, deliver: Deliver) -> None:
        """`deliver` takes proposals, and at most one error as the last thing."""
        self.opening = opening
        self.target_ids = target_ids(opening.vocabulary)
        self.deliver = deliver
        self.ahead = RunAhead(opening)
        self.has_begun = False  # the prompt is in KV
        self._history = History(opening.prompt_token_ids, opening.output_token_ids)
        self._same = 0  # leading tokens for which KV, as far as it goes, is right

    def advance(self, advance: Advance) -> None:
        """Take an Advance, on any thread; InvalidArgument when it leaves a gap or overlaps."""
        self.ahead.post(advance)

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
        return Span(start, self.target_ids.to_draft(tokens[start:]), 1)

    def commit(self, span: Span, logits: Logits, report: StepReport) -> None:
        """Draft the next token, unless the path has left the one it follows."""
        end = span.position + len(span.token_ids)
        self.has_begun = True
        self.ahead.observe_cost(report.cost_model)
        self._catch_up()
        if self._same < end or len(self.ahead.tokens) > end:
            return
        token = pick_next(self.target_ids.from_draft(logits[0]), self.opening, self._history)
        self._history.append(token.id)
        self.hand_out(self.ahead.propose((token,)))

    def fail(self, error: PacelineError) -> None:
        """Deliver the error."""
        self.deliver(error)

    def kept(self, cached: int) -> tuple[int, ...]:
        """Committed tokens and drafts in KV."""
        return self.target_ids.to_draft(self.ahead.tokens[: min(cached, self._same)])

    def _catch_up(self) -> None:
        unchanged = self.ahead.catch_up()
        self._same = min(self._same, unchanged)
        self._history.truncate(unchanged)
        for token in self.ahead.tokens[len(self._history) :]:
            self._history.append(token)
        if taken := self.ahead.taken_branch():
            self.hand_out(taken)

    def hand_out(self, proposal: Proposal) -> None:
        """Deliver the end of the path."""
        self.deliver(proposal)
        self.ahead.delivered()


def pick_next(row: Logits, opening: Opening, history: History) -> DraftToken:
    """What the draft picks behind `history`, by the target's sampler, and its second best."""
    stop = opening.stop_token_ids
    best, margin, second = pick_with_second(row, opening.sampling, opening.seed, history, stop)
    return DraftToken(best, margin, second=second)
