"""What a drafter promises, and what it is made from."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from draft_server.prompt_lookup import RecentOutputs
from draft_server.run_ahead import RunAhead
from paceline.engine.interfaces import Decoder, Engine
from paceline.engine.sampling.history import History
from paceline.engine.sampling.matcher import Grammar
from paceline.errors import PacelineError
from paceline.protocol.advance import Advance
from paceline.protocol.proposal import Proposal
from paceline.protocol.session import Opening

Deliver = Callable[[Proposal | PacelineError], None]
"""Takes proposals, on the engine's worker thread, and at most one error as the last thing."""


@dataclass(frozen=True, slots=True)
class DraftContext:
    """What a drafter is made from, for one stream.

    engine: the one that has its session; others may be opened there beside it. recent: outputs
    of streams that ended, for prompt lookup. grammar: what the output is held to.
    """

    opening: Opening
    deliver: Deliver
    engine: Engine
    recent: RecentOutputs
    grammar: Grammar | None = None

    def history(self, output: Sequence[int]) -> History:
        """The stream's tokens, with an output that begins so."""
        matcher = self.grammar.matcher() if self.grammar is not None else None
        return History(self.opening.prompt_token_ids, output, matcher)


class StreamDrafter(Decoder, Protocol):
    """What drafts for one stream: the Decoder of its session in the engine.

    It takes Advances and delivers Proposals, and at most one error as the last thing. It promises
    that
    - a proposal begins at the end of the committed and draft tokens, or is a branch to them;
    - nothing is drafted behind a stop token, nor for the last position of the output;
    - no step begins that would draft beyond the lookahead of the last Advance;
    - an empty proposal says that nothing comes before the next Advance.
    A proposal names the Drafter of the wire on whose scale its confidences are. RunAhead keeps the
    books for all of this; tests/unit/draft_server/test_drafter_conformance.py checks every
    registered drafter.
    """

    ahead: RunAhead

    def advance(self, advance: Advance) -> None:
        """Take an Advance, on any thread; errors as of RunAhead.post."""

    @property
    def owes(self) -> bool:
        """Whether draft tokens are to come before the next Advance; on any thread."""

    def close(self) -> None:
        """Free what it has in the engine beside its own session."""
