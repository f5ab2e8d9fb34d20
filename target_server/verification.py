"""Verification: a session of the target, whatever is proposed. Pure."""

import functools
import math
import sys
from collections import deque
from collections.abc import Callable

from paceline.engine.interfaces import Rows, Span, SpanBranch, StepReport
from paceline.engine.sampling.history import History
from paceline.engine.sampling.logprobs import token_logprobs
from paceline.engine.sampling.matcher import Grammar
from paceline.engine.sampling.requests import Pick, PickRequest
from paceline.errors import PacelineError
from paceline.protocol.limits import MAX_BRANCHES
from paceline.protocol.session import Opening
from paceline.protocol.token_path import TokenPath
from paceline.protocol.verdict import PromptLogprobs, TokenLogprobs, Verdict, Verify
from target_server.branches import fitting
from target_server.deciding import Decided, Row, decide

PROMPT_LOGPROB_TOKENS = 32
"""Tokens of a prompt whose logits are held at once."""


def _logprobs(row: Row, token: int, count: int) -> TokenLogprobs:
    """Of `token`, which a pick is, and of the `count` best ones."""
    if isinstance(row, Pick):
        return row.logprobs or TokenLogprobs(math.nan)
    return token_logprobs(row, token, count)


class Verification:
    """One session of the target: a Decoder that turns Verify messages into verdicts."""

    def __init__(
        self,
        opening: Opening,
        deliver: Callable[[Verdict | PromptLogprobs | PacelineError], None],
        grammar: Grammar | None = None,
        max_block_tokens: int = sys.maxsize,
        *,
        branches: bool = False,
    ) -> None:
        """`deliver` takes prompt logprobs, verdicts, and at most one error as the last thing.

        max_block_tokens: most whose logits one step computes. Of a longer proposal the head is
        verified. grammar: what the output is held to. branches: whether the engine computes any.
        """
        self._opening = opening
        self._deliver = deliver
        self._max_block_tokens = max_block_tokens
        self._computes_branches = branches
        tokens = opening.prompt_token_ids + opening.output_token_ids
        self._path = TokenPath(tokens)
        matcher = grammar.matcher() if grammar is not None else None
        self._history = History(opening.prompt_token_ids, opening.output_token_ids, matcher)
        self._inbox: deque[Verify] = deque(maxlen=1)
        self._asked = Verify()
        self._steps = 0
        self._cached: int | None = None
        self._told = 0  # position up to which logprobs of the prompt were delivered
        self._waited = 0.0

    def ask(self, verify: Verify) -> None:
        """Take a Verify, which replaces what is left of the last one. On any thread."""
        self._inbox.append(verify)

    @property
    def finished(self) -> bool:
        """Whether the output has ended, by a stop token or by its length."""
        return len(self._path) >= self._opening.max_length or (
            self._history.output_tokens > 0
            and self._path.tokens[-1] in self._opening.stop_token_ids
        )

    @property
    def owes(self) -> bool:
        """Whether it was asked for a verdict that has not come; on any thread."""
        return bool(self._steps or self._inbox) and not self.finished

    @property
    def idle(self) -> bool:
        """Whether it waits for the orchestrator to ask."""
        return not (self._steps or self._inbox or self.finished)

    def plan(self, cached: int) -> Span | None:
        """The tokens not in KV yet, and the draft tokens to verify behind them."""
        if self._cached is None:
            self._cached = min(cached, len(self._path) - 1, len(self._opening.prompt_token_ids))
        self._read_inbox()
        if self._steps == 0 or self.finished:
            return None
        if self._opening.prompt_logprobs is not None and self._told < self._last_of_prompt:
            return self._prompt_piece(min(cached, self._told))
        draft_tokens = self._draft_tokens()
        branches = self._branches(draft_tokens)
        self._history.expect(draft_tokens)
        start = min(cached, len(self._path) - 1)
        tokens = (*self._path.tokens[start:], *draft_tokens)
        picks = functools.partial(self._picks, draft_tokens, branches)
        return Span(start, tokens, 1 + len(draft_tokens), picks, branches)

    def commit(self, span: Span, rows: Rows, report: StepReport) -> None:
        """Decide the block's tokens and deliver the verdict."""
        self._waited += report.waited_seconds
        end = span.position + len(span.token_ids)
        if end <= self._last_of_prompt:
            self._told = end
            self._deliver(self._prompt_logprobs(end - len(rows), rows))
            return
        draft_tokens = span.token_ids[len(span.token_ids) - (span.logit_rows - 1) :]
        position = len(self._path)
        decided = decide(rows, draft_tokens, span.branches, self._opening, self._history)
        if decided.branch is not None:
            report.take_branch(decided.branch)
        self._path.extend(decided.tokens)
        self._steps -= 1
        self._asked = Verify()
        self._deliver(self._verdict(position, decided, len(draft_tokens), span, report))
        self._cached, self._waited = 0, 0.0

    def fail(self, error: PacelineError) -> None:
        """Deliver the error."""
        self._deliver(error)

    def kept(self, cached: int) -> list[int]:
        """The committed tokens in KV: all but the last, which the next step computes."""
        return self._path.tokens[: min(cached, len(self._path) - 1)]

    @property
    def _last_of_prompt(self) -> int:
        return len(self._opening.prompt_token_ids) - 1

    def _prompt_piece(self, cached: int) -> Span:
        """A piece of the prompt with logits of every token; short, as each is a vocabulary.

        Before it comes what was told before the session lost its KV.
        """
        count = min(PROMPT_LOGPROB_TOKENS, self._max_block_tokens)
        end = min(self._told + count, self._last_of_prompt)
        tokens = self._opening.prompt_token_ids[cached:end]
        return Span(cached, tokens, end - self._told)

    def _picks(
        self, draft_tokens: tuple[int, ...], branches: tuple[SpanBranch, ...]
    ) -> PickRequest:
        """What to pick behind the committed tokens, and behind each of those to verify."""
        opening = self._opening
        return PickRequest.of(
            *(opening.sampling, opening.seed, opening.stop_token_ids, self._history, draft_tokens),
            *(opening.logprobs, [(branch.position, branch.token_ids) for branch in branches]),
        )

    def _prompt_logprobs(self, position: int, rows: Rows) -> PromptLogprobs:
        """Of the tokens behind `position` and on, of which `rows` are the logits before."""
        count = self._opening.prompt_logprobs or 0
        start = position + 1
        following = self._opening.prompt_token_ids[start : start + len(rows)]
        pairs = zip(rows, following, strict=True)
        return PromptLogprobs(start, tuple(_logprobs(*pair, count) for pair in pairs))

    def _verdict(
        self,
        position: int,
        decided: Decided,
        verified: int,
        span: Span,
        report: StepReport,
    ) -> Verdict:
        return Verdict(
            position=position,
            token_ids=tuple(decided.tokens),
            verified=min(verified, len(decided.tokens)) if self.finished else verified,
            accepted=decided.accepted,
            step_seconds=report.seconds,
            load=report.load,
            cost_model=report.cost_model,
            logprobs=self._logprobs(decided),
            cached_tokens=self._cached or 0,
            sampling_seconds=report.since_forward(),
            waited_seconds=self._waited,
            branch_verified=span.rows - len(span.token_ids),
            branch_accepted=decided.branch_accepted,
        )

    def _logprobs(self, decided: Decided) -> tuple[TokenLogprobs, ...]:
        count = self._opening.logprobs
        if count is None:
            return ()
        pairs = zip(decided.rows, decided.tokens, strict=False)
        return tuple(_logprobs(row, token, count) for row, token in pairs)

    def _read_inbox(self) -> None:
        while self._inbox:
            self._asked = self._inbox.popleft()
            self._steps = 1 + self._asked.continue_steps

    def _draft_tokens(self) -> tuple[int, ...]:
        """The draft tokens that follow the committed tokens.

        Fewer than the output and the step have room for: the target adds a token of its own.
        """
        proposal = self._asked.proposal
        if proposal is None:
            return ()
        room = min(self._opening.max_length - len(self._path), self._max_block_tokens) - 1
        return self._path.remainder(proposal)[:room]

    def _branches(self, draft_tokens: tuple[int, ...]) -> tuple[SpanBranch, ...]:
        """The branches of these draft tokens, as far as there is room."""
        if not (self._computes_branches and draft_tokens):
            return ()
        rows = min(MAX_BRANCHES, self._max_block_tokens - 1 - len(draft_tokens))
        end = self._opening.max_length - 1
        return fitting(self._path, draft_tokens, self._asked.branches, end, rows)
