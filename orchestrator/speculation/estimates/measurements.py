"""What all streams measured together of one draft and of the target: acceptance, times. Pure.

What an ordinary decode step takes is measured of the target, once for all of its drafts.
"""

from orchestrator.speculation.estimates.acceptance import Calibration
from orchestrator.speculation.estimates.batch_load import load_bucket
from orchestrator.speculation.estimates.counts import Counts
from orchestrator.speculation.estimates.decode_step import DecodeStep
from orchestrator.speculation.estimates.lookup import LookupMeasurements
from orchestrator.speculation.estimates.speculating_speed import SpeculatingSpeed
from orchestrator.speculation.estimates.speedup import SpeedupEstimate
from paceline.averages import LEAST_SECONDS, Mean, Share
from paceline.protocol.proposal import Drafter
from paceline.protocol.status import Speedup
from paceline.protocol.verdict import TimedVerdict, Verdict

BENCH_STREAMS = 2
"""Consecutive streams that gave speculation up, after which new ones begin without."""
BENCH_PROBE_TOKENS = 1024
"""Tokens, of all streams together, between probes of a draft that is benched. A better draft that
replaced it is found by the first stream after so many; where another pool's drafts are in use, by
the first that explores after so many, see orchestrator.speculation.pool_choice."""
SPEEDUP_DRIFT_TOKENS = 65536
"""Tokens of all streams, in which the speed-up of a draft that nobody uses may change by 1."""
WAIT_ROUNDS, WAIT_STEPS = 16, 2
"""Of so many rounds of all streams, and of so many steps that all of them share, one round has its
draft tokens sent each at once, so that the wait for each is measured."""
MISSED_STEP = 1.5
"""An answer that takes so many times as long as its step has waited for another step."""
_RECENT_ROUNDS = 512
"""Rounds after which those before weigh half as much in the acceptance rate that is shown."""
_HIT_PRIOR, _HIT_MEMORY = 4.0, 100.0


class TargetMeasurements:
    """Shared by all streams: what an ordinary decode step takes. tokens, rounds: of all of them."""

    def __init__(self) -> None:
        """Begin with nothing."""
        self.tokens = self.rounds = 0
        self._decode_steps: dict[int, DecodeStep] = {}

    def decode_step_seconds(self, others: int) -> float | None:
        """Of an ordinary decode step beside so many other streams, as the orchestrator sees it."""
        found = self._decode_steps.get(load_bucket(others))
        return None if found is None else found.seconds

    def observe_decode_step(self, seconds: float, others: int, *, pure: bool = True) -> None:
        """An ordinary decode step of a stream beside so many others. pure: it was one for all."""
        load = load_bucket(others)
        if load not in self._decode_steps:
            self._decode_steps[load] = DecodeStep(others)
        self._decode_steps[load].observe(seconds, others, self.rounds, pure=pure)

    def count(self, tokens: int, rounds: int = 1) -> None:
        """Verdicts of any stream, so many tokens together."""
        self.tokens += tokens
        self.rounds += rounds

    def decode_step_is_stale(self, others: int) -> bool:
        """Whether it was not measured at such a load, or so long ago that all should do so now."""
        found = self._decode_steps.get(load_bucket(others))
        return found is None or found.is_stale(others, self.rounds)


class DraftMeasurements:
    """Shared by all streams that use a draft, or the drafts of one pool.

    hit_rate: how often there is a draft token at all, where one is asked for: prompt lookup often
    has none. lookup: of a draft that only looks up. recent: counts for the acceptance rate that is
    shown; old rounds fade. shared_length: draft tokens that streams wait for that share the
    target's steps.
    """

    def __init__(self, target: TargetMeasurements | None = None) -> None:
        """Begin with priors. target: shared with other drafts."""
        self.target = target or TargetMeasurements()
        self.calibration = Calibration()
        self.hit_rate = Share(1.0, _HIT_PRIOR, _HIT_MEMORY)
        self.lookup = LookupMeasurements()
        self.recent = Counts()
        self.speedups = SpeedupEstimate()
        self.shared_length: int | None = None
        self._observed_at = 0
        self._speculating = SpeculatingSpeed()
        self._waits: dict[tuple[Drafter, bool], Mean] = {}
        self._waited_at = 0
        self._prompt_token = Mean()
        self._given_up = 0
        self._probed_at = self.target.tokens
        self._probing = False

    def decode_step_seconds(self, others: int) -> float | None:
        """See TargetMeasurements."""
        return self.target.decode_step_seconds(others)

    @property
    def speedup(self) -> Speedup | None:
        """Speed of streams over that of the target alone at the same load; None while unknown.

        Rounds count in which the draft had a part, or was left out because it did not pay. The
        interval widens while none is observed.
        """
        return self.speedups.value((self.target.tokens - self._observed_at) / SPEEDUP_DRIFT_TOKENS)

    @property
    def speculating_speedup(self) -> float | None:
        """Speed of speculating rounds over that of decode steps, in streams that were alone."""
        rate, step = self._speculating.alone, self.decode_step_seconds(0)
        return None if rate is None or step is None else rate * step

    def shared_speedup(self, others: int) -> float | None:
        """The same of all streams that share steps, each beside so many others."""
        rate = self._speculating.beside(others, self.target.rounds)
        step = self.decode_step_seconds(others)
        return None if rate is None or step is None else rate * step

    def is_in_step(self, others: int) -> bool:
        """Whether streams that wait for draft tokens together mostly get the very next step."""
        return self._speculating.is_in_step(others, self.target.rounds)

    def observe_answer(self, timed: TimedVerdict, others: int) -> None:
        """A verdict of a round in which a stream waited for as many draft tokens as the others."""
        missed = timed.answer_seconds > MISSED_STEP * timed.verdict.step_seconds
        self._speculating.observe_answer(missed=missed, others=others)

    @property
    def crowds_lose(self) -> bool:
        """Whether MANY streams were found of late to lose by speculation.

        Alone, or among a few, it may pay all the same: that is told by other streams.
        """
        return self._speculating.crowds_lose(self.target.rounds)

    def observe_crowd_that_loses(self, others: int) -> None:
        """One of MANY streams gave speculation up, as it does not pay for all together."""
        self._speculating.observe_crowd_that_loses(others, self.target.rounds)

    @property
    def benched(self) -> bool:
        """Whether one stream after the other gave it up."""
        return self._given_up >= BENCH_STREAMS

    def observe_decode_step(self, seconds: float, others: int, *, pure: bool = True) -> None:
        """See TargetMeasurements."""
        self.target.observe_decode_step(seconds, others, pure=pure)

    def observe_round(self, verdict: Verdict) -> None:
        """A round of any stream, with draft tokens that were verified."""
        self.recent.observe(verdict)
        if self.recent.rounds % _RECENT_ROUNDS == 0:
            self.recent.fade()

    def observe_speedup(self) -> None:
        """A block of rounds went into `speedups`."""
        self._observed_at = self.target.tokens

    def observe_speculating(self, tokens: int, seconds: float, others: int) -> None:
        """A round that was planned to speculate, of a stream beside so many others."""
        self._speculating.observe(tokens, seconds, others, self.target.rounds)

    def observe_wait(self, seconds: float, drafter: Drafter, *, restart: bool) -> None:
        """A draft token came so long after the one before, or, at a restart, after the news."""
        self._waits.setdefault((drafter, restart), Mean()).observe(seconds)

    def waits_are_stale(self, sessions: int = 1) -> bool:
        """Whether a round's draft tokens had better come each at once: one of so many, until known.

        sessions: that the target has.
        """
        if None in {self.wait(restart=False), self.wait(restart=True)}:
            return True
        rounds = max(WAIT_ROUNDS, WAIT_STEPS * sessions)
        return self.target.rounds - self._waited_at >= rounds

    def begin_observing_waits(self) -> None:
        """A round has its draft tokens each at once."""
        self._waited_at = self.target.rounds

    def observe_opening(self, prompt_tokens: int, seconds: float) -> None:
        """The first draft token of a session with such a prompt."""
        self._prompt_token.observe(seconds / prompt_tokens, LEAST_SECONDS / prompt_tokens)

    def wait(self, *, restart: bool) -> float | None:
        """Seconds until the next draft token, expected; None while not known.

        Of the draft model's, where there is one: a token of prompt lookup is there at once.
        """
        found = self._waits.get((Drafter.MODEL, restart)) or self._waits.get(
            (Drafter.NGRAM, restart)
        )
        return None if found is None else found.value

    def opening_seconds(self, prompt_tokens: int) -> float | None:
        """Seconds until the first draft token of a session, expected."""
        one = self._prompt_token.value
        return None if one is None else one * prompt_tokens

    def observe_outcome(self, *, given_up: bool) -> None:
        """A stream paused speculation for the first time, or it pays for it."""
        was_benched = self.benched
        self._given_up = self._given_up + 1 if given_up else 0
        if was_benched and not self.benched:
            self.speedups.doubt()
        self._probed_at = self.target.tokens
        self.end_probe()

    @property
    def probing(self) -> bool:
        """Whether a stream tries the draft although it is benched, and has not decided yet."""
        return self._probing

    @property
    def tokens_to_probe(self) -> int:
        """Tokens of all streams until a new one may try a draft that is benched."""
        return max(0, self._probed_at + BENCH_PROBE_TOKENS - self.target.tokens)

    def end_probe(self) -> None:
        """The stream that tried the draft has ended, decided or not."""
        self._probing = False

    @property
    def probe_is_due(self) -> bool:
        """Whether a new stream may try a draft that is benched: one in so many tokens."""
        return not self.tokens_to_probe

    def begin_probe(self) -> None:
        """A stream tries the draft, which may be another one by now."""
        self._probed_at = self.target.tokens
        self._probing = True
        self._doubt()

    def _doubt(self) -> None:
        """Forget acceptance rates and waits: it may be another draft by now.

        Streams hold the calibration, so that it stays the same one.
        """
        self.calibration.forget()
        self.hit_rate.doubt(_HIT_PRIOR)
        self.lookup.doubt()
        self._prompt_token.doubt()
        for wait in self._waits.values():
            wait.doubt()

    def count(self, tokens: int, rounds: int = 1) -> None:
        """See TargetMeasurements."""
        self.target.count(tokens, rounds)
