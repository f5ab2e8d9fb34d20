"""A model small enough to enumerate: its logits are a hash of the tokens before."""

from collections.abc import Sequence

import numpy as np

from paceline.engine.interfaces import KVCache, Logits, Span, SpanBranch
from paceline.engine.sampling.history import History
from paceline.engine.sampling.sampler import pick
from paceline.protocol.hashing import mix
from paceline.protocol.session import Opening


class TokenCache:
    """A KV cache that remembers the very tokens, so that a wrong rollback shows."""

    rope_length = 0

    def __init__(self) -> None:
        self.tokens: list[int] = []
        self.branches: tuple[SpanBranch, ...] = ()

    @property
    def length(self) -> int:
        return len(self.tokens)

    def truncate(self, length: int) -> None:
        assert length <= len(self.tokens)
        del self.tokens[length:]
        self.branches = ()

    def take_branch(self, index: int) -> None:
        branch = self.branches[index]
        self.truncate(branch.position)
        self.tokens += branch.token_ids

    def copy(self, length: int) -> "TokenCache":
        assert length <= len(self.tokens)
        copied = TokenCache()
        copied.tokens = self.tokens[:length]
        return copied


class TableRunner:
    """A Runner whose logits depend on the last `order` tokens (all of them when None)."""

    page_tokens = 16

    def __init__(self, vocabulary: int = 8, seed: int = 0, order: int | None = None) -> None:
        self.vocabulary = vocabulary
        self.seed = seed
        self.order = order
        self.rows: list[int] = []

    def new_cache(self, max_length: int = 0) -> TokenCache:
        return TokenCache()

    def logits(self, tokens: Sequence[int]) -> Logits:
        state = self.seed
        for token in tokens if self.order is None else tokens[-self.order :]:
            state = mix(state, token)
        return np.random.default_rng(state).normal(0.0, 2.0, self.vocabulary)

    def forward(self, batch: Sequence[tuple[KVCache, Span]]) -> list[Logits]:
        self.rows.append(sum(span.rows for _, span in batch))
        return [self._span(cache, span) for cache, span in batch]

    def _span(self, cache: KVCache, span: Span) -> Logits:
        assert isinstance(cache, TokenCache)
        cache.truncate(span.position)
        assert cache.length == span.position, "a gap in KV"
        rows = []
        for token in span.token_ids:
            cache.tokens.append(token)
            rows.append(self.logits(cache.tokens))
        del rows[: len(rows) - span.logit_rows]
        for branch in span.branches:
            before = cache.tokens[: branch.position]
            ends = range(1, len(branch.token_ids) + 1)
            rows += [self.logits([*before, *branch.token_ids[:end]]) for end in ends]
        cache.branches = span.branches
        return np.array(rows)


def decode_alone(runner: TableRunner, opening: Opening) -> tuple[int, ...]:
    """The output of `opening` by the definition: one pick after another, nothing else."""
    history = History(opening.prompt_token_ids, opening.output_token_ids)
    tokens = list(opening.prompt_token_ids + opening.output_token_ids)
    output = list(opening.output_token_ids)
    while len(output) < opening.max_tokens:
        token = pick(
            runner.logits(tokens), opening.sampling, opening.seed, history, opening.stop_token_ids
        )
        history.append(token)
        tokens.append(token)
        output.append(token)
        if token in opening.stop_token_ids:
            break
    return tuple(output)
