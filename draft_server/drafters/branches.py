"""Drafting branches: more sessions of the draft model, each behind a second-best token.

They run in the same steps as the drafter's own session, with a token or a few each. Where more
tokens in a step cost next to nothing, branches take no time from the draft tokens.
"""

from collections.abc import Sequence
from itertools import takewhile

import structlog

from draft_server.branched_path import MAX_BRANCHES, BranchEnd
from draft_server.drafters.base import DraftContext
from draft_server.drafters.sampling import DraftSampler
from draft_server.run_ahead import RunAhead
from paceline.engine.interfaces import OpenSession, Rows, Span, StepReport
from paceline.errors import InvalidArgument, PacelineError, ResourceExhausted, Unavailable

_log = structlog.get_logger(__name__)


class BranchDrafter:
    """One session for branches: a Decoder that continues one after the other."""

    def __init__(
        self,
        context: DraftContext,
        ahead: RunAhead,
        sampler: DraftSampler,
        peers: "list[BranchDrafter]",
    ) -> None:
        """Grow branches of `ahead` beside `peers`; begin with its committed tokens."""
        self._deliver = context.deliver
        self._ahead = ahead
        self._sampler = sampler
        self._peers = peers
        self.tokens = ahead.committed  # of which KV, as far as it goes, is right
        self._history = context.history(self.tokens[len(context.opening.prompt_token_ids) :])
        self._committed = len(self.tokens)
        self.end: BranchEnd | None = None

    @property
    def idle(self) -> bool:
        """Whether it has work does not depend on what others do."""
        return False

    def plan(self, cached: int) -> Span | None:
        """What is not in KV yet of the branch that is most likely needed."""
        ahead = self._ahead
        ahead.apply()
        claimed = [peer.end for peer in self._peers if peer is not self and peer.end]
        self.end = ahead.branch_to_grow(claimed, self.end)
        if self.end is None:
            return None
        tokens = ahead.tokens_to(self.end)
        start = min(cached, self._follow(tokens), len(tokens) - 1)
        return self._sampler.span(start, tokens, self._history)

    def _follow(self, tokens: list[int]) -> int:
        """Turn to `tokens`; returns how many leading ones are as before."""
        same = self._committed  # those never change
        pairs = zip(self.tokens[same:], tokens[same:], strict=False)
        same += sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], pairs))
        self.tokens, self._committed = tokens, self._ahead.committed_length
        self._history.truncate(same)
        for token in tokens[same:]:
            self._history.append(token)
        return same

    def commit(self, span: Span, rows: Rows, report: StepReport) -> None:
        """Draft the next token, unless the path has left the branch."""
        ahead, end = self._ahead, self.end
        ahead.observe_cost(report.cost_model)
        ahead.apply()
        if end is None or not ahead.holds(end):
            return
        token = self._sampler.pick(rows[0], self._history)
        if proposal := ahead.grow(end, token):
            self._deliver(proposal)
        self.end = end.behind(token.id)

    def kept(self, cached: int) -> Sequence[int]:
        """Nothing: what others may share lies in the drafter's own session."""
        return ()

    def fail(self, error: PacelineError) -> None:
        """The engine has logged it; drafting goes on without branches."""


class BranchSessions:
    """The engine's sessions for one stream's branches, opened when they are first granted."""

    def __init__(self, context: DraftContext, ahead: RunAhead, sampler: DraftSampler) -> None:
        """Begin with none. ahead: whose branches they grow."""
        self._context = context
        self._ahead = ahead
        self._sampler = sampler
        self._decoders: list[BranchDrafter] = []
        self._sessions: list[OpenSession] = []

    def open(self, count: int) -> None:
        """Have `count` sessions, as far as there is room that nobody else needs."""
        context, opening = self._context, self._context.opening
        while len(self._sessions) < min(count, MAX_BRANCHES) and self._may_open:
            decoder = BranchDrafter(context, self._ahead, self._sampler, self._decoders)
            tokens = self._sampler.model_ids(decoder.tokens)
            try:
                session = context.engine.open(
                    decoder, tokens, opening.max_length, salt=opening.cache_salt, spare=True
                )
            except (InvalidArgument, ResourceExhausted, Unavailable) as error:
                _log.debug("no branches", reason=str(error))
                return
            self._decoders.append(decoder)
            self._sessions.append(session)

    @property
    def _may_open(self) -> bool:
        """Whether half of all KV is free."""
        load = self._context.engine.load
        return 2 * load.kv_pages_used <= load.kv_pages_total

    def close(self) -> None:
        """Free them."""
        for session in self._sessions:
            self._context.engine.close(session)
