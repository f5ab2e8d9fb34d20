"""What all streams know together of one draft: how good it is, and how long things take. Pure."""

from orchestrator.acceptance import Calibration
from paceline.session import Drafter

_ROUND_MEMORY = 20.0
_GAIN_MEMORY = 400.0
_TIME_MEMORY = 12.0
BENCH_STREAMS = 2
"""Streams in a row that gave speculation up, after which new ones begin without."""
BENCH_PROBE_TOKENS = 1024
"""Tokens, of all streams together, between probes of a draft that is benched."""


class Rate:
    """Tokens per second over the recent rounds."""

    def __init__(self, memory: float = _ROUND_MEMORY) -> None:
        """The latest `memory` rounds or so count."""
        self._kept = 1.0 - 1.0 / memory
        self._tokens = self._seconds = 0.0

    def observe(self, tokens: int, seconds: float) -> None:
        """One more round."""
        self._tokens = self._kept * self._tokens + tokens
        self._seconds = self._kept * self._seconds + seconds

    @property
    def value(self) -> float | None:
        """The rate; None before the first round."""
        return self._tokens / self._seconds if self._seconds > 0 else None


class Mean:
    """A mean that forgets: the latest dozen or so count."""

    def __init__(self) -> None:
        """Begin with nothing."""
        self.value: float | None = None
        self._seen = 0

    def observe(self, value: float) -> None:
        """One more."""
        self._seen += 1
        before = value if self.value is None else self.value
        self.value = before + (value - before) / min(self._seen, _TIME_MEMORY)


def crowd(others: int) -> int:
    """Loads that count as equal: 0, 1, 2 to 3, 4 to 7 other streams, and so on."""
    return others.bit_length()


class DraftRecord:
    """Shared by all streams that use a draft."""

    def __init__(self) -> None:
        """Begin with priors."""
        self.calibration = Calibration()
        self._plain: dict[int, Mean] = {}
        self._speculating = Rate(_GAIN_MEMORY)
        self._waits: dict[tuple[Drafter, bool], Mean] = {}
        self._prompt_row = Mean()
        self._given_up = 0
        self._since_probe = 0

    def plain_seconds(self, others: int) -> float | None:
        """Of a plain step beside so many other streams, as the orchestrator sees it."""
        plain = self._plain.get(crowd(others))
        return None if plain is None else plain.value

    @property
    def gain(self) -> float | None:
        """Speed of speculating rounds over that of plain steps, in streams that were alone."""
        rate, plain = self._speculating.value, self.plain_seconds(0)
        return None if rate is None or plain is None else rate * plain

    @property
    def benched(self) -> bool:
        """Whether one stream after the other gave it up."""
        return self._given_up >= BENCH_STREAMS

    def observe_plain(self, seconds: float, others: int) -> None:
        """A plain step of a stream beside so many others."""
        self._plain.setdefault(crowd(others), Mean()).observe(seconds)

    def observe_speculating(self, tokens: int, seconds: float) -> None:
        """A round that was planned to speculate, of a stream that was alone."""
        self._speculating.observe(tokens, seconds)

    def observe_wait(self, seconds: float, drafter: Drafter, *, restart: bool) -> None:
        """A guess came so long after the one before, or, at a restart, after the news."""
        self._waits.setdefault((drafter, restart), Mean()).observe(seconds)

    def observe_opening(self, prompt_tokens: int, seconds: float) -> None:
        """The first guess of a session with such a prompt."""
        self._prompt_row.observe(seconds / prompt_tokens)

    def wait(self, *, restart: bool) -> float | None:
        """Seconds until the next guess, expected; None while not known.

        Of the model's, where there is one: what lookup knows is there at once.
        """
        found = self._waits.get((Drafter.MODEL, restart)) or self._waits.get(
            (Drafter.NGRAM, restart)
        )
        return None if found is None else found.value

    def opening_seconds(self, prompt_tokens: int) -> float | None:
        """Seconds until the first guess of a session, expected."""
        row = self._prompt_row.value
        return None if row is None else row * prompt_tokens

    def observe_outcome(self, *, given_up: bool) -> None:
        """A stream paused speculation for the first time, or has used it for a good while."""
        self._given_up = self._given_up + 1 if given_up else 0
        self._since_probe = 0

    def may_probe(self) -> bool:
        """Whether a new stream may try a benched draft: one in so many tokens."""
        due = self._since_probe >= BENCH_PROBE_TOKENS
        if due:
            self._since_probe = 0
        return due

    def count(self, tokens: int) -> None:
        """Tokens of any stream."""
        self._since_probe += tokens
