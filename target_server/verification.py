"""Verification: which tokens the target decides, whatever is proposed. Pure."""

import math
import sys
from collections import deque
from collections.abc import Callable

from paceline.engine.interfaces import Logits, Rows, Span, StepReport
from paceline.engine.sampling.history import History
from paceline.engine.sampling.logprobs import token_logprobs
from paceline.engine.sampling.matcher import Grammar
from paceline.engine.sampling.requests import Pick, PickRequest
from paceline.engine.sampling.sampler import pick
from paceline.errors import Internal, PacelineError
from paceline.protocol.session import Opening
from paceline.protocol.token_path import TokenPath
from paceline.protocol.verdict import PromptLogprobs, TokenLogprobs, Verdict, Verify

PROMPT_LOGPROB_TOKENS = 32
"""Tokens of a prompt whose logits are held at once."""


def verify(
    rows: Rows, draft_tokens: tuple[int, ...], opening: Opening, history: History
) -> list[int]:
    """The tokens that a block decides: accepted draft tokens, then one of the target's own.

    rows: len(draft_tokens) + 1 of them, logits or picks; row i is for the position of
    draft_tokens[i]. A
    draft token is accepted exactly when it is the target's own pick there; the first that is not is
    replaced by that pick. After all of them comes a bonus token. Nothing comes after a stop token.
    `history` grows by the result. Raises Internal where no token that may come has a number.
    """
    decided: list[int] = []
    for index, row in enumerate(rows):
        token, is_number = _pick(row, opening, history)
        if not is_number:
            raise Internal(f"the model's logits at position {len(history)} are no numbers")
        decided.append(token)
        history.append(token)
        rejected = index == len(draft_tokens) or token != draft_tokens[index]
        if rejected or token in opening.stop_token_ids:
            break
    return decided


def _pick(row: Logits | Pick, opening: Opening, history: History) -> tuple[int, bool]:
    """The sampler's token, and whether its logit is a number."""
    if isinstance(row, Pick):
        return row.token, row.is_number
    token = pick(row, opening.sampling, opening.seed, history, opening.stop_token_ids)
    return token, bool(row[token] > -math.inf)


def _logprobs(row: Logits | Pick, token: int, count: int) -> TokenLogprobs:
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
    ) -> None:
        """`deliver` takes prompt logprobs, verdicts, and at most one error as the last thing.

        max_block_tokens: most whose logits one step computes. Of a longer proposal the head is
        verified. grammar: what the output is held to.
        """
        self._opening = opening
        self._deliver = deliver
        self._max_block_tokens = max_block_tokens
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
        self._history.expect(draft_tokens)
        start = min(cached, len(self._path) - 1)
        tokens = (*self._path.tokens[start:], *draft_tokens)
        return Span(start, tokens, 1 + len(draft_tokens), lambda: self._picks(draft_tokens))

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
        decided = verify(rows, draft_tokens, self._opening, self._history)
        self._path.extend(decided)
        self._steps -= 1
        self._asked = Verify()
        logprobs = self._logprobs(rows, decided)
        self._deliver(self._verdict(position, tuple(decided), draft_tokens, logprobs, report))
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

    def _picks(self, draft_tokens: tuple[int, ...]) -> PickRequest:
        """What to pick behind the committed tokens, and behind each of the draft tokens."""
        opening = self._opening
        stop, logprobs = opening.stop_token_ids, opening.logprobs
        return PickRequest.of(
            opening.sampling, opening.seed, stop, self._history, draft_tokens, logprobs
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
        decided: tuple[int, ...],
        draft_tokens: tuple[int, ...],
        logprobs: tuple[TokenLogprobs, ...],
        report: StepReport,
    ) -> Verdict:
        return Verdict(
            position=position,
            token_ids=decided,
            verified=min(len(draft_tokens), len(decided)) if self.finished else len(draft_tokens),
            accepted=sum(
                token == draft_token
                for token, draft_token in zip(decided, draft_tokens, strict=False)
            ),
            step_seconds=report.seconds,
            load=report.load,
            cost_model=report.cost_model,
            logprobs=logprobs,
            cached_tokens=self._cached or 0,
            sampling_seconds=report.since_forward(),
            waited_seconds=self._waited,
        )

    def _logprobs(self, rows: Rows, decided: list[int]) -> tuple[TokenLogprobs, ...]:
        count = self._opening.logprobs
        if count is None:
            return ()
        pairs = zip(rows, decided, strict=False)
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
