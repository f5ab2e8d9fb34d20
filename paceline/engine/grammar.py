"""Grammars over a model's tokens, by llguidance: which tokens may come next.

llguidance was chosen over xgrammar: it needs neither torch nor a compiler, and closes the ids of a
padded vocabulary that stand for no token; docs/decisions/structured-output.md has both measured.
"""

import json
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from functools import lru_cache

import numpy as np
from llguidance import LLMatcher, LLParserLimits, LLTokenizer, StructTag
from llguidance.gbnf_to_lark import gbnf_to_lark

from paceline.engine.sampling.matcher import Mask
from paceline.errors import FailedPrecondition, InvalidArgument, in_a_line
from paceline.protocol.constraint import Constraint, ConstraintKind

_WHITESPACE = r"[\x20\x0A\x0D\x09]{1,20}"
"""Between the parts of JSON: bounded, as a model may write blanks without end."""
_CACHED = 64
_masks = ThreadPoolExecutor(1, "masks")


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
        self.compile = lru_cache(_CACHED)(self._compile)
        """The grammar of a constraint; see _compile."""

    def _compile(self, constraint: Constraint) -> "TokenGrammar":
        """InvalidArgument says what is wrong with it, FailedPrecondition that there is no text."""
        tokenizer = self._loaded()
        name = f"sampling.constraint.{constraint.kind.value}"
        try:
            source = _SOURCES[constraint.kind](constraint)
        except (ValueError, KeyError, TypeError, AssertionError) as error:
            raise InvalidArgument(f"{name}: {in_a_line(error, kind=False)}") from error
        matcher = LLMatcher(tokenizer, source, log_level=0, limits=LLParserLimits())
        if wrong := matcher.get_error():
            raise InvalidArgument(f"{name}: {_in_a_line(wrong)}")
        return TokenGrammar(matcher, self._size, self._eos)

    def _loaded(self) -> LLTokenizer:
        if self._file is None:
            raise FailedPrecondition(
                "sampling.constraint: the model has no tokenizer.json: its tokens have no text"
            )
        with self._lock:
            if self._tokenizer is None:
                self._tokenizer = _tokenizer(self._file, self._size, self._eos)
        return self._tokenizer


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

    def __init__(self, matcher: LLMatcher, vocabulary_size: int, eos: list[int]) -> None:
        """`matcher` stands at the beginning, and stays there."""
        self._matcher = matcher
        self._size = vocabulary_size
        self._eos = eos

    def matcher(self) -> "TokenMatcher":
        """One at the beginning of an output."""
        return TokenMatcher(self._matcher.deep_copy(), self._size, self._eos)


class TokenMatcher:
    """The Matcher of one stream: leading tokens that the grammar knows, and others behind them."""

    def __init__(self, matcher: LLMatcher, vocabulary_size: int, eos: list[int]) -> None:
        """`matcher` is its own."""
        self._matcher = matcher
        self._words = -(-vocabulary_size // 32)
        self._size = vocabulary_size
        self._eos = eos
        self._known = self._ends = 0  # of its leading tokens: in the grammar; EOS behind its end
        self._tokens: list[int] = []
        self._coming: Future[list[Mask]] | None = None
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
            self._coming = _masks.submit(self._look_ahead, draft_tokens)

    def _look_ahead(self, draft_tokens: tuple[int, ...]) -> list[Mask]:
        """Masks before each of them and behind the last, up to one that leaves the grammar."""
        masks, taken = [self._compute()], 0
        for token in draft_tokens:
            if not self._matcher.validate_tokens([token]):
                break
            self._matcher.consume_token(token)
            taken += 1
            masks.append(self._compute())
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
        return self._compute()

    @property
    def _follows(self) -> bool:
        """Whether all of the output is in the grammar."""
        return self._known + self._ends == len(self._tokens)

    def _settle(self) -> None:
        """Only one thread may ask the grammar at a time."""
        if self._coming is not None:
            self._masks, self._coming = self._coming.result(), None

    def _compute(self) -> Mask:
        words = np.zeros(self._words, np.int32)
        if not self._matcher.is_stopped():
            self._matcher.unsafe_compute_mask_ptr(words.ctypes.data, words.nbytes)
        mask = np.unpackbits(words.view(np.uint8), count=self._size, bitorder="little").view(bool)
        if self._matcher.is_error():
            reason = _in_a_line(self._matcher.get_error())
            raise InvalidArgument(f"sampling.constraint: the output cannot be held to it: {reason}")
        if not mask.any():  # the output is whole
            mask[self._eos] = True
        return mask


def _in_a_line(said: str) -> str:
    """What the library says, without the state of its parser."""
    return in_a_line(ValueError(said.partition("<state>")[0]), kind=False)


def _json_schema(constraint: Constraint) -> str:
    return LLMatcher.grammar_from_json_schema(
        constraint.text, overrides={"whitespace_pattern": _WHITESPACE}
    )


def _regex(constraint: Constraint) -> str:
    return LLMatcher.grammar_from_regex(constraint.text)


def _choice(constraint: Constraint) -> str:
    return LLMatcher.grammar_from_lark("start: " + " | ".join(map(json.dumps, constraint.options)))


def _grammar(constraint: Constraint) -> str:
    """Lark, or the EBNF of llama.cpp and vLLM, which has ::= in its rules."""
    text = gbnf_to_lark(constraint.text) if "::=" in constraint.text else constraint.text
    return LLMatcher.grammar_from_lark(text)


def _structural_tag(constraint: Constraint) -> str:
    """JSON of triggers and structures, as vLLM takes it."""
    said = json.loads(constraint.text)
    triggers = said["triggers"]
    tags = [
        StructTag(
            trigger=next(one for one in triggers if tag["begin"].startswith(one)),
            begin=tag["begin"],
            grammar=tag["schema"],
            end=tag["end"],
        )
        for tag in said["structures"]
    ]
    return StructTag.to_grammar(tags)


_SOURCES: dict[ConstraintKind, Callable[[Constraint], str]] = {
    ConstraintKind.JSON_SCHEMA: _json_schema,
    ConstraintKind.REGEX: _regex,
    ConstraintKind.CHOICE: _choice,
    ConstraintKind.GRAMMAR: _grammar,
    ConstraintKind.STRUCTURAL_TAG: _structural_tag,
}
