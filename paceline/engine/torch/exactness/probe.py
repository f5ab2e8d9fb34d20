"""The probe: whether rows have the same bits however steps are cut, shared, copied and resumed."""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from paceline.engine.interfaces import KVCache, Logits, Runner, Span
from paceline.engine.torch.exactness.branches import PROBED, branches_agree

COMPARED_ROWS = 24
"""Rows at the end of each piece whose logits are compared; each is a whole vocabulary."""
BEYOND = 18
"""Tokens of the prompt behind the first page of KV, or behind the first step if that is longer."""
BLOCK = 5
"""Rows of a verify block."""
FEW = (1, 1, 2, 3, 4)
"""Rows of the first steps of a session alone, behind a copied prefix."""
ALONE = 4
"""Rows decoded one by one, at the beginning of the prompt and across the page boundary."""
RESUMED = BEYOND + ALONE // 2
"""Tokens at the end of the prompt that are computed behind a copied prefix."""
OTHERS = (3, 9)
"""Rows of the sessions before and behind the probed one, in each of its steps."""

TokenIds = tuple[int, ...]
Advance = Callable[[int], None]
"""Told of tokens that were computed."""
Rows = dict[int, NDArray[np.floating]]
"""Logits by position."""


@dataclass(slots=True)
class _ProbedSession:
    """A session that has run up to `position`."""

    tokens: TokenIds
    cache: KVCache
    position: int = 0
    rows: Rows = field(default_factory=dict)

    @property
    def left(self) -> int:
        """Tokens that it has not run."""
        return len(self.tokens) - self.position

    def span(self, count: int) -> Span:
        """The next `count` tokens."""
        piece = self.tokens[self.position : self.position + count]
        return Span(self.position, piece, min(COMPARED_ROWS, len(piece)))

    def take(self, span: Span, logits: Logits) -> None:
        """Note the rows of a span that was run."""
        self.position += len(span.token_ids)
        self.rows |= zip(range(self.position - len(logits), self.position), logits, strict=True)


@dataclass(frozen=True, slots=True)
class Probed:
    """Where bits differed, in words; and whether those of branches' rows were right."""

    differing: tuple[str, ...]
    branches_agree: bool


def probe(
    runner: Runner,
    vocabulary_size: int,
    positions: int,
    max_batched_tokens: int,
    advance: Advance = lambda _: None,
) -> Probed:
    """Run a prompt, longer than a page of KV and than a step, as servers run prompts.

    positions: the most tokens that the model takes. max_batched_tokens: the most rows of a step.
    advance: told of each of probed_tokens that are done.
    """
    length = _length(runner, positions, max_batched_tokens)
    tokens = _tokens(vocabulary_size, length)
    steps = [
        min(max_batched_tokens, length - start) for start in range(0, length, max_batched_tokens)
    ]
    whole, beginning = (_ProbedSession(tokens, runner.new_cache()) for _ in range(2))
    _run(runner, whole, steps, advance=advance)
    _run(runner, beginning, [min(COMPARED_ROWS, length)], advance=advance)
    expected = {**whole.rows, **beginning.rows}
    trials: dict[str, Callable[[], Rows]] = {
        "in other steps beside other sessions": lambda: _in_company(runner, tokens, steps, advance),
        "behind a copied prefix and drafts that were rolled back": lambda: _resumed(
            runner, whole, advance
        ),
        "alone in steps of a few rows": lambda: _alone(runner, whole, advance),
    }
    differing = tuple(name for name, rows in trials.items() if not _agree(expected, rows()))
    branches = branches_agree(runner, whole.cache, tokens)
    advance(PROBED)
    return Probed(differing, branches)


def probed_tokens(runner: Runner, positions: int, max_batched_tokens: int) -> int:
    """How many tokens a probe computes, those of other sessions left out."""
    length = _length(runner, positions, max_batched_tokens)
    resumed = 2 * (length - _resumed_at(length))
    return 2 * length + min(COMPARED_ROWS, length) + resumed + PROBED


def _length(runner: Runner, positions: int, max_batched_tokens: int) -> int:
    return min(positions, max(runner.page_tokens, max_batched_tokens) + BEYOND)


def _resumed_at(length: int) -> int:
    return max(1, length - RESUMED)


def first_bits(runner: Runner, vocabulary_size: int) -> str:
    """A hash of a short prompt's rows."""
    session = _ProbedSession(_tokens(vocabulary_size, COMPARED_ROWS), runner.new_cache())
    _run(runner, session, [COMPARED_ROWS])
    bits = b"".join(row.tobytes() for row in session.rows.values())
    return hashlib.sha256(bits).hexdigest()


def _in_company(runner: Runner, tokens: TokenIds, steps: Sequence[int], advance: Advance) -> Rows:
    """The same tokens in other steps: single tokens, verify blocks and long pieces."""
    session = _ProbedSession(tokens, runner.new_cache())
    pieces = _cut(steps[0], [1] * ALONE + [BLOCK])
    for rows in steps[1:]:
        pieces += _cut(rows, [rows // 3])
    _run(runner, session, pieces, OTHERS, advance)
    return session.rows


def _resumed(runner: Runner, whole: _ProbedSession, advance: Advance) -> Rows:
    """From a copy of all but the last tokens, behind draft tokens that were rejected."""
    session = _copied(whole)
    wrong = tuple(reversed(whole.tokens[:BLOCK]))
    runner.forward([(session.cache, Span(session.position, wrong, len(wrong)))])
    _run(runner, session, _cut(session.left, [1] * ALONE), OTHERS, advance)
    return session.rows


def _alone(runner: Runner, whole: _ProbedSession, advance: Advance) -> Rows:
    """The last tokens in steps of a few rows, without other sessions."""
    session = _copied(whole)
    _run(runner, session, _cut(session.left, FEW), advance=advance)
    return session.rows


def _copied(whole: _ProbedSession) -> _ProbedSession:
    """A session behind a copy of all but the last tokens."""
    at = _resumed_at(len(whole.tokens))
    return _ProbedSession(whole.tokens, whole.cache.copy(at), at)


def _cut(rows: int, first: Sequence[int]) -> list[int]:
    """`rows` as the pieces of `first`, a long piece and a last block, as far as they fit."""
    pieces: list[int] = []
    for piece in (*first, rows - sum(first) - BLOCK, BLOCK, rows):
        if (fits := min(piece, rows - sum(pieces))) > 0:
            pieces.append(fits)
    return pieces


def _run(
    runner: Runner,
    session: _ProbedSession,
    pieces: Sequence[int],
    others: Sequence[int] = (),
    advance: Advance = lambda _: None,
) -> None:
    """Run the session in pieces, beside other sessions with these rows in each step."""
    beside = [_ProbedSession(session.tokens[::-1], runner.new_cache()) for _ in others]
    for piece in pieces:
        spans = [other.span(count) for other, count in zip(beside, others, strict=True)]
        batch = list(zip(beside, spans, strict=True))
        batch.insert(1, (session, session.span(piece)))
        logits = runner.forward([(one.cache, span) for one, span in batch])
        for (one, span), rows in zip(batch, logits, strict=True):
            one.take(span, rows)
        advance(piece)


def _tokens(vocabulary_size: int, length: int) -> TokenIds:
    return tuple(np.random.default_rng(0).integers(0, vocabulary_size, length).tolist())


def _agree(expected: Rows, found: Rows) -> bool:
    """Whether all that both have is equal."""
    common = expected.keys() & found.keys()
    return all(np.array_equal(expected[at], found[at]) for at in common)
