"""Streams of a target that are driven without a network, with drafts as they please."""

import queue
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from paceline.engine.interfaces import Engine
from paceline.engine.sampling.matcher import Grammar
from paceline.errors import PacelineError
from paceline.protocol.proposal import Proposal
from paceline.protocol.session import Opening
from paceline.protocol.token_path import TokenPath
from paceline.protocol.verdict import PromptLogprobs, Verdict, Verify
from target_server.verification import Verification

WAIT_SECONDS = 300.0
LONGEST = 8
"""Draft tokens of a proposal."""

Draft = Callable[[int], tuple[int, ...]]
"""Draft tokens, of the count of output tokens so far."""


def no_draft(_: int) -> tuple[int, ...]:
    return ()


def drafts_of(output: tuple[int, ...], kind: str, seed: int) -> Draft:
    """identical: the target's own tokens; close: with mistakes; unrelated: any. 0 to 8 each."""
    rng = random.Random(f"{kind} {seed}")

    def draft(at: int) -> tuple[int, ...]:
        right = output[at : at + rng.randint(0, LONGEST)]
        if kind == "identical":
            return right
        wrong = 1.0 if kind == "unrelated" else 0.25
        return tuple(rng.randrange(1000) if rng.random() < wrong else token for token in right)

    return draft


@dataclass
class Stream:
    """One session; `step` asks once and waits for the verdict."""

    engine: Engine
    opening: Opening
    draft: Draft = no_draft
    grammar: Grammar | None = None
    tokens: list[int] = field(default_factory=list)
    verdicts: list[Verdict] = field(default_factory=list)
    prompt_logprobs: list[PromptLogprobs] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._items: queue.Queue[Any] = queue.Queue()
        most = self.engine.max_block_tokens
        self.tokens += self.opening.output_token_ids
        self.decoder = Verification(self.opening, self._items.put, self.grammar, most)
        path = (*self.opening.prompt_token_ids, *self.opening.output_token_ids)
        self.path = TokenPath(path)
        salt = self.opening.cache_salt if self.opening.prompt_logprobs is None else None
        resumes = bool(self.opening.output_token_ids)
        self.session = self.engine.open(
            self.decoder, path, self.opening.max_length, resumes=resumes, salt=salt
        )

    @property
    def finished(self) -> bool:
        return self.decoder.finished

    def ask(self) -> None:
        tokens = self.draft(len(self.tokens))
        proposal = Proposal(len(self.path), self.path.digest, tokens) if tokens else None
        self.decoder.ask(Verify(proposal))
        self.engine.wake(self.session)

    def take(self) -> None:
        while True:
            item = self._items.get(timeout=WAIT_SECONDS)
            if isinstance(item, PacelineError):
                raise item
            if isinstance(item, Verdict):
                self.verdicts.append(item)
                self.tokens += item.token_ids
                self.path.extend(item.token_ids)
                return
            self.prompt_logprobs.append(item)

    def step(self) -> None:
        self.ask()
        self.take()

    def close(self) -> None:
        self.engine.close(self.session)

    def run(self) -> tuple[int, ...]:
        """To its end."""
        try:
            while not self.finished:
                self.step()
        finally:
            self.close()
        return tuple(self.tokens)

    @property
    def accepted(self) -> int:
        return sum(verdict.accepted for verdict in self.verdicts)


def run_together(streams: list[Stream]) -> None:
    """One step after the other, each of all that are not at their end."""
    while running := [stream for stream in streams if not stream.finished]:
        for stream in running:
            stream.ask()
        for stream in running:
            stream.take()
    for stream in streams:
        stream.close()
