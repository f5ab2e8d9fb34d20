"""What did one stream do, and how long did it take? Pure: times are handed in.

Its client is told with Finished, the log with one line. All streams: all_streams.py.
"""

from dataclasses import dataclass, fields
from operator import attrgetter
from statistics import median

from orchestrator.speculation.estimates.counts import Counts, PoolCounts
from paceline.protocol.generation import Overhead, Statistics
from paceline.protocol.proposal import Drafter, DraftToken
from paceline.protocol.session import CostModel
from paceline.protocol.verdict import TimedVerdict
from paceline.values import value

_PARTS = attrgetter(*(part.name for part in fields(Overhead)))


@value(frozen=True, slots=True)
class TimedStep:
    """The target's step behind a verdict; in seconds, times on the orchestrator's clock.

    began_seconds: when it was asked for, or when the step before had come, if that was later.
    arrived_seconds: when its verdict came. draft_wait_seconds: waited for draft tokens, before it
    began. step_seconds: of the forward pass. verified, accepted: how many draft tokens;
    draft_tokens: these, as far as who drafted them is still known. branch_accepted: tokens of a
    branch behind them, which a model drafted.
    """

    began_seconds: float
    arrived_seconds: float
    draft_wait_seconds: float
    step_seconds: float
    verified: int
    accepted: int
    draft_tokens: tuple[DraftToken, ...] = ()
    branch_accepted: int = 0

    def drafter(self, index: int, token_id: int) -> Drafter | None:
        """Who drafted the token of that index in its delta; None: the target, or not known."""
        if self.accepted <= index < self.accepted + self.branch_accepted:
            return Drafter.MODEL
        if index >= min(self.accepted, len(self.draft_tokens)):
            return None
        draft_token = self.draft_tokens[index]
        return draft_token.drafter if draft_token.id == token_id else None


@dataclass
class Seen:
    """What the metrics have seen of a stream already, while it runs."""

    first: bool = False
    tokens: int = 0
    steps: int = 0
    target_only_steps: int = 0
    gaps: int = 0
    rounds: int = 0
    target_losses: int = 0


class StreamStatistics:
    """Counts and times of one stream; times are in seconds on any one monotonic clock."""

    def __init__(self, arrived: float) -> None:
        """`arrived`: when the request came."""
        self._arrived = arrived
        self._first_token: float | None = None
        self._last_token = arrived
        self.overheads: list[Overhead] = []
        self.round_seconds: list[float] = []
        self._interrupted = False
        self.own = Counts()
        self.pool_counts = PoolCounts()
        """Counts of all streams of the draft pool that this one has now."""
        self.queue_seconds: float | None = None
        """From the request to its first step: the wait for a target, and there for KV.

        None before its first token came.
        """
        self.gaps: list[float] = []
        """Seconds from each verdict to the next."""
        self.seen = Seen()
        self.cost: CostModel | None = None
        """What the target's steps cost, as it said last."""
        self.target_losses = 0
        """Times that it lost its target, and looked for another one that goes on with it."""
        self.waiting = True
        """For a target, or for KV there: until the target says that it has begun."""

    def receive(self, drafter: Drafter, count: int) -> None:
        """Draft tokens came."""
        self.own.drafted[drafter] += count
        self.pool_counts.drafted[drafter] += count

    def rounds_since(self, first: int) -> list[tuple[float, Overhead]]:
        """Seconds and overhead of each round from the one numbered `first` on."""
        return list(zip(self.round_seconds[first:], self.overheads[first:], strict=False))

    @property
    def ttft_seconds(self) -> float | None:
        """From the request to the first token; None before that."""
        return None if self._first_token is None else self._first_token - self._arrived

    @property
    def seconds(self) -> float:
        """From the request to the last token so far, or to the end of one without any."""
        return self._last_token - self._arrived

    @property
    def decode_seconds(self) -> float:
        """From the first token to the last one so far; 0 before these."""
        return 0.0 if self._first_token is None else self._last_token - self._first_token

    @property
    def accepted(self) -> int:
        """Draft tokens accepted, those of branches too."""
        return self.own.accepted + self.own.branch_accepted

    def interrupted(self) -> None:
        """The time until the next verdict is left out: no round took it."""
        self._interrupted = True

    def step(
        self, timed: TimedVerdict, draft_wait: float, draft_tokens: tuple[DraftToken, ...] = ()
    ) -> TimedStep:
        """The step of a verdict that came, and is not observed yet.

        One that was asked for while another ran begins when that ends.
        """
        verdict = timed.verdict
        return TimedStep(
            max(timed.asked_seconds, self._last_token),
            timed.arrived_seconds,
            draft_wait,
            verdict.step_seconds,
            verdict.verified,
            verdict.accepted,
            draft_tokens,
            verdict.branch_accepted,
        )

    def observe(self, timed: TimedVerdict, draft_wait: float) -> None:
        """A verdict came, of a round that had waited `draft_wait` for its draft."""
        now, verdict = timed.arrived_seconds, timed.verdict
        self.own.observe(verdict)
        self.pool_counts.observe(verdict)
        wall = now - self._last_token
        if self._first_token is None:
            self._first_token = now
            here = max(0.0, timed.asked_seconds - self._arrived)
            self.queue_seconds = here + verdict.waited_seconds
        else:
            self.gaps.append(wall)
            if verdict.verified and not self._interrupted:
                self.round_seconds.append(wall)
                self.overheads.append(_overhead(timed, wall - draft_wait))
        self._last_token = now
        self.cost = verdict.cost_model
        self._interrupted = self.waiting = False

    def scored(self, timed: TimedVerdict) -> None:
        """The verdict came that ends a stream of no tokens."""
        self._last_token = timed.arrived_seconds

    def result(self) -> Statistics:
        """The statistics so far."""
        own, ttft = self.own, self.ttft_seconds
        verified, accepted = own.verified_by_position, own.accepted_by_position
        return Statistics(
            rounds=own.rounds,
            drafted=own.drafted.total(),
            verified=own.verified,
            accepted=own.accepted,
            accepted_by_position=accepted + (0,) * (len(verified) - len(accepted)),
            verified_by_position=verified,
            target_only_steps=own.target_only_steps,
            ttft_seconds=self.seconds if ttft is None else ttft,
            decode_seconds=self.decode_seconds,
            overhead_seconds=median(one.total for one in self.overheads) if self.overheads else 0.0,
            overhead=_medians(self.overheads),
            branch_verified=own.branch_verified,
            branch_accepted=own.branch_accepted,
        )


def _overhead(timed: TimedVerdict, wall: float) -> Overhead:
    """What of a round, less its wait for the draft, was not the forward pass.

    One that was asked for while another ran begins when that ends.
    """
    verdict, answer = timed.verdict, min(timed.answer_seconds, wall - timed.codec_seconds)
    left = answer - verdict.step_seconds - verdict.sampling_seconds
    queue = min(verdict.queue_seconds, max(0.0, left))
    return Overhead(
        sampling=verdict.sampling_seconds,
        queue=queue,
        wire=left - queue,
        codec=timed.codec_seconds,
        emit=wall - answer - timed.codec_seconds,
    )


def _medians(overheads: list[Overhead]) -> Overhead:
    if not overheads:
        return Overhead()
    return Overhead(*(median(part) for part in zip(*map(_PARTS, overheads), strict=True)))
