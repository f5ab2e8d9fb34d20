"""The model drafter: a small model that guesses one token a step."""

from collections.abc import Callable

from draft_server.session import DraftSession
from paceline.engine.history import History
from paceline.engine.law import pick_with_margin
from paceline.engine.work import Logits, Span, StepReport
from paceline.errors import PacelineError
from paceline.session import Advance, Drafter, Opening, Proposal

Deliver = Callable[[Proposal | PacelineError], None]


class ModelDrafter:
    """One session of a draft model: a Decoder that runs ahead within its window.

    It follows the target's law with the target's noise, penalties and stop tokens, so
    that a model which agrees with the target guesses what the target will pick.
    """

    def __init__(self, opening: Opening, deliver: Deliver) -> None:
        """`deliver` takes proposals, and at most one error as the last thing."""
        self._opening = opening
        self._deliver = deliver
        self.session = DraftSession(opening)
        self._history = History(opening.prompt_token_ids, opening.output_token_ids)
        self._same = 0  # leading tokens for which KV, as far as it goes, is right

    def advance(self, advance: Advance) -> None:
        """Take an Advance, on any thread; InvalidArgument when it leaves a gap or overlaps."""
        self.session.post(advance)

    @property
    def idle(self) -> bool:
        """Whether it has work does not depend on what others do."""
        return False

    def plan(self, cached: int) -> Span | None:
        """The tokens not in KV yet, when the window has room for a guess."""
        self._catch_up()
        if self.session.wanted <= 0:
            return None
        tokens = self.session.tokens
        start = min(cached, self._same, len(tokens) - 1)
        self._same = len(tokens)
        return Span(start, tuple(tokens[start:]), 1)

    def commit(self, span: Span, logits: Logits, report: StepReport) -> None:
        """Guess the next token, unless the path has left the one it follows."""
        end = span.position + len(span.token_ids)
        self._catch_up()
        if self._same < end or len(self.session.tokens) > end:
            return
        token, margin = pick_with_margin(
            logits[0],
            self._opening.sampling,
            self._opening.seed,
            self._history,
            self._opening.stop_token_ids,
        )
        self._history.append(token)
        self._deliver(self.session.propose((token,), (margin,), Drafter.MODEL))

    def fail(self, error: PacelineError) -> None:
        """Deliver the error."""
        self._deliver(error)

    def kept(self, cached: int) -> list[int]:
        """Confirmed tokens and guesses in KV."""
        return self.session.tokens[: min(cached, self._same)]

    def _catch_up(self) -> None:
        unchanged = self.session.catch_up()
        self._same = min(self._same, unchanged)
        self._history.truncate(unchanged)
        for token in self.session.tokens[len(self._history) :]:
            self._history.append(token)
