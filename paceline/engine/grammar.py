"""Grammars over a model's tokens, by llguidance: which tokens may come next.

llguidance was chosen over xgrammar: it needs neither torch nor a compiler, and closes the ids of a
padded vocabulary that stand for no token; docs/decisions/structured-output.md has both measured.
"""

import asyncio
import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from functools import lru_cache, partial

import numpy as np
from llguidance import LLMatcher, LLParserLimits, LLTokenizer

from paceline.engine.bounded_threads import BoundedThreads
from paceline.engine.grammar_source import grammar_source, wrong
from paceline.engine.sampling.matcher import Mask
from paceline.errors import FailedPrecondition, InvalidArgument, ResourceExhausted, in_a_line
from paceline.protocol.constraint import Constraint

COMPILE_SECONDS = 20.0
"""For a constraint to be compiled: a tokenizer's first use, some seconds, is in it."""
MASK_SECONDS = 2.0
"""For the masks of one step: so long may a constraint stall it, once; then its stream ends."""
_CACHED = 64
_MAX_WAITING = 64
_TRIED = 3
"""Tokens of an output that are looked for when a constraint is compiled."""
_LIMITS = LLParserLimits(
    initial_lexer_fuel=1_000_000,
    step_lexer_fuel=200_000,
    step_max_items=50_000,
    max_lexer_states=50_000,
    max_grammar_size=200_000,
)
"""Those of llguidance, with a fifth of its states and less than half its size."""
_masks = BoundedThreads("masks", 1)


class Grammars:
    """Compiles constraints for one model; a tokenizer takes seconds, once, when first needed."""

    def __init__(
        self, tokenizer_json: bytes | None, vocabulary_size: int, eos_token_ids: tuple[int, ...]
    ) -> None:
        """tokenizer_json: Hugging Face tokenizers' file; None where the model has none."""
        self._file = tokenizer_json
        self._size = vocabulary_size
        self._eos = list(eos_token_ids)
        self._lock = threading.Lock()
        self._tokenizer: LLTokenizer | None = None
        self._threads = ThreadPoolExecutor(2, "grammars")
        self._waiting = 0
        self._too_slow: deque[Constraint] = deque(maxlen=_CACHED)
        self.compile = lru_cache(_CACHED)(self._compile)
        """The grammar of a constraint; see _compile."""

    async def compiled(self, constraint: Constraint) -> "TokenGrammar":
        """As compile, on a thread, for COMPILE_SECONDS; ResourceExhausted where others wait."""
        if constraint in self._too_slow:
            raise _slow(constraint)
        if self._waiting >= _MAX_WAITING:
            raise ResourceExhausted(f"{self._waiting} constraints wait to be compiled")
        self._waiting += 1
        compiling = self._threads.submit(self.compile, constraint)
        try:
            async with asyncio.timeout(COMPILE_SECONDS):
                return await asyncio.shield(asyncio.wrap_future(compiling))
        except TimeoutError:
            if compiling.cancel():
                raise ResourceExhausted("constraints of others are being compiled") from None
            self._too_slow.append(constraint)
            raise _slow(constraint) from None
        finally:
            compiling.cancel()  # if it has not begun
            self._waiting -= 1

    def _compile(self, constraint: Constraint) -> "TokenGrammar":
        """InvalidArgument says what is wrong with it, FailedPrecondition that there is no text."""
        tokenizer = self._loaded()
        matcher = LLMatcher(tokenizer, grammar_source(constraint), log_level=0, limits=_LIMITS)
        if reason := matcher.get_error():
            raise wrong(constraint, reason)
        grammar = TokenGrammar(matcher, constraint, self._size, self._eos)
        grammar.check()
        return grammar

    def _loaded(self) -> LLTokenizer:
        if self._file is None:
            raise FailedPrecondition(
                "sampling.constraint: the model has no tokenizer.json: its tokens have no text"
            )
        with self._lock:
            if self._tokenizer is None:
                self._tokenizer = _tokenizer(self._file, self._size, self._eos)
        return self._tokenizer


def _slow(constraint: Constraint) -> InvalidArgument:
    reason = f"it takes more than {COMPILE_SECONDS:g} s to compile; make it simpler"
    return wrong(constraint, reason)


def _tokenizer(file: bytes, size: int, eos: list[int]) -> LLTokenizer:
    try:
        return LLTokenizer(file.decode(), n_vocab=size, eos_token=eos or None)
    except Exception as error:  # the library raises bare ones
        reason = in_a_line(error, kind=False)
        raise FailedPrecondition(
            f"sampling.constraint: the tokenizer has no grammars: {reason}"
        ) from error


class TokenGrammar:
    """A compiled constraint; a matcher for each stream."""

    def __init__(
        self, matcher: LLMatcher, constraint: Constraint, vocabulary_size: int, eos: list[int]
    ) -> None:
        """`matcher` stands at the beginning, and stays there."""
        self._matcher = matcher
        self._constraint = constraint
        self._size = vocabulary_size
        self._eos = eos

    def matcher(self) -> "TokenMatcher":
        """One at the beginning of an output."""
        return TokenMatcher(self._matcher.deep_copy(), self._constraint, self._size, self._eos)

    def check(self) -> None:
        """InvalidArgument where not even the first tokens can be found: what is too large is."""
        matcher = self.matcher()
        for _ in range(_TRIED):
            token = int(matcher.compute().argmax())
            if token in self._eos:
                return
            matcher.append(token)


class TokenMatcher:
    """The Matcher of one stream: leading tokens that the grammar knows, and others behind them."""

    def __init__(
        self, matcher: LLMatcher, constraint: Constraint, vocabulary_size: int, eos: list[int]
    ) -> None:
        """`matcher` is its own."""
        self._matcher = matcher
        self._constraint = constraint
        self._words = -(-vocabulary_size // 32)
        self._size = vocabulary_size
        self._eos = eos
        self._known = self._ends = 0  # of its leading tokens: in the grammar; EOS behind its end
        self._tokens: list[int] = []
        self._look: Callable[[], list[Mask]] = partial(self._look_ahead, ())
        self._coming: Future[list[Mask]] | None = None
        self._failed: InvalidArgument | None = None
        self._expected: tuple[int, tuple[int, ...]] = (0, ())
        self._masks: list[Mask] = []

    def append(self, token: int) -> None:
        """See Matcher."""
        self._settle()
        if self._follows:
            if self._matcher.validate_tokens([token]):
                self._matcher.consume_token(token)
                self._known += 1
            elif self._matcher.is_stopped() and token in self._eos:
                self._ends += 1
        self._tokens.append(token)

    def truncate(self, count: int) -> None:
        """See Matcher."""
        self._settle()
        if self._known > count:
            self._matcher.rollback(self._known - count)
            self._known = count
        self._ends = min(self._ends, max(0, count - self._known))
        del self._tokens[count:]
        if count < self._expected[0]:  # the masks are of another output now
            self._masks = []

    def expect(self, draft_tokens: tuple[int, ...]) -> None:
        """See Matcher."""
        self._settle()
        self._expected = len(self._tokens), draft_tokens
        if self._follows:
            self._look = partial(self._look_ahead, draft_tokens)
            self._coming = _masks.submit(self._look)

    def _look_ahead(self, draft_tokens: tuple[int, ...]) -> list[Mask]:
        """Masks before each of them and behind the last, up to one that leaves the grammar."""
        masks, taken = [self.compute()], 0
        for token in draft_tokens:
            if not self._matcher.validate_tokens([token]):
                break
            self._matcher.consume_token(token)
            taken += 1
            masks.append(self.compute())
        if taken:
            self._matcher.rollback(taken)
        return masks

    def mask(self) -> Mask | None:
        """See Matcher; InvalidArgument where the grammar takes more than its limits to follow."""
        self._settle()
        if not self._follows:
            return None
        start, draft_tokens = self._expected
        behind = len(self._tokens) - start
        if 0 <= behind < len(self._masks) and (
            tuple(self._tokens[start:]) == draft_tokens[:behind]
        ):
            return self._masks[behind]
        self._look = partial(self._look_ahead, ())
        self._coming = _masks.submit(self._look)
        self._expected = len(self._tokens), ()
        self._settle()
        return self._masks[0]

    @property
    def _follows(self) -> bool:
        """Whether all of the output is in the grammar."""
        return self._known + self._ends == len(self._tokens)

    def _settle(self) -> None:
        """Only one thread may ask the grammar at a time.

        InvalidArgument, now and ever after, where that cannot be followed or takes too long.
        """
        if self._failed:
            raise self._failed
        if self._coming is None:
            return
        coming, self._coming = self._coming, None
        try:
            self._masks = _masks.result(coming, self._look, MASK_SECONDS)
        except InvalidArgument as error:
            self._failed = error
            raise
        except TimeoutError as error:
            reason = f"its next tokens take more than {MASK_SECONDS:g} s to find; make it simpler"
            self._failed = wrong(self._constraint, reason)
            raise self._failed from error

    def compute(self) -> Mask:
        """Which ids may come next, of an output in the grammar; InvalidArgument as of mask."""
        words = np.zeros(self._words, np.int32)
        if not self._matcher.is_stopped():
            self._matcher.unsafe_compute_mask_ptr(words.ctypes.data, words.nbytes)
        mask = np.unpackbits(words.view(np.uint8), count=self._size, bitorder="little").view(bool)
        if self._matcher.is_error():
            raise wrong(self._constraint, self._matcher.get_error())
        if not mask.any():  # the output is whole
            mask[self._eos] = True
        return mask
