"""Sampling parameters: what a client may ask for, and its limits."""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from paceline.errors import InvalidArgument
from paceline.protocol.constraint import Constraint

MAX_TEMPERATURE = 100.0
MAX_PENALTY = 2.0
MAX_BIAS = 100.0
MAX_BAD_WORDS = 1024
MAX_BAD_WORD_TOKENS = 256


@dataclass(frozen=True, slots=True)
class Sampling:
    """How a token is chosen from the logits, as far as somebody says it.

    None is not said: a request leaves it to its model, a model to the neutral value, which leaves
    the distribution alone. Fields and their limits are those of paceline.v1.SamplingParams.
    """

    temperature: float | None = None
    top_k: int | None = None
    top_p: float | None = None
    min_p: float | None = None
    repetition_penalty: float | None = None
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    logit_bias: Mapping[int, float] = field(default_factory=dict)
    min_tokens: int = 0
    allowed_token_ids: tuple[int, ...] = ()
    bad_words_token_ids: tuple[tuple[int, ...], ...] = ()
    constraint: Constraint | None = None

    def over(self, default: "Sampling") -> "SamplingParams":
        """All of it: what is not said here is as in `default`, or neutral where that is silent."""
        said = {
            field.name: value
            for sampling in (default, self)
            for field in dataclasses.fields(Sampling)
            if (value := getattr(sampling, field.name)) is not None
        }
        return SamplingParams(**said)

    def validate(self) -> None:
        """Raise InvalidArgument naming the first field that is out of its limits."""
        self.over(Sampling()).check()


@dataclass(frozen=True, slots=True)
class SamplingParams(Sampling):
    """How a token is chosen from the logits, with nothing left open; the defaults are neutral."""

    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0
    min_p: float = 0.0
    repetition_penalty: float = 1.0

    @property
    def greedy(self) -> bool:
        """Whether the best token is taken, without noise."""
        return self.temperature == 0.0

    @property
    def penalizes(self) -> bool:
        """Whether a logit depends on the tokens before it."""
        return (
            self.repetition_penalty != 1.0
            or self.presence_penalty != 0.0
            or self.frequency_penalty != 0.0
        )

    @property
    def forbids(self) -> bool:
        """Whether some tokens cannot be taken, whatever their logits."""
        return bool(self.allowed_token_ids or self.bad_words_token_ids)

    @property
    def filters(self) -> bool:
        """Whether some tokens cannot be taken, whatever the noise."""
        return self.top_k > 0 or self.min_p > 0.0 or self.top_p < 1.0

    def bad_after(self, output: Sequence[int]) -> list[int]:
        """Tokens that would complete a bad word behind the output tokens so far."""
        return [
            word[-1]
            for word in self.bad_words_token_ids
            if len(word) == 1 or tuple(output[1 - len(word) :]) == word[:-1]
        ]

    def check(self) -> None:
        """Raise InvalidArgument naming the first field that is out of its limits."""
        hot = f"from 0 to {MAX_TEMPERATURE:g}"
        _check("temperature", self.temperature, hot, 0.0 <= self.temperature <= MAX_TEMPERATURE)
        _check("top_p", self.top_p, "over 0 and at most 1", 0.0 < self.top_p <= 1.0)
        _check("min_p", self.min_p, "from 0 to 1", 0.0 <= self.min_p <= 1.0)
        repetition = self.repetition_penalty
        _check(
            "repetition_penalty",
            repetition,
            "over 0 and finite",
            repetition > 0 and math.isfinite(repetition),
        )
        for name in ("presence_penalty", "frequency_penalty"):
            value = getattr(self, name)
            limit = f"from {-MAX_PENALTY:g} to {MAX_PENALTY:g}"
            _check(name, value, limit, abs(value) <= MAX_PENALTY)
        limit = f"from {-MAX_BIAS:g} to {MAX_BIAS:g}"
        for token, bias in self.logit_bias.items():
            _check("a token of logit_bias", token, "0 or more", token >= 0)
            _check(f"logit_bias[{token}]", bias, limit, abs(bias) <= MAX_BIAS)
        if self.constraint is not None:
            self._check_constraint(self.constraint)
        words = len(self.bad_words_token_ids)
        _check(
            "bad_words_token_ids' length", words, f"at most {MAX_BAD_WORDS}", words <= MAX_BAD_WORDS
        )
        limit = f"from 1 to {MAX_BAD_WORD_TOKENS}"
        for index, word in enumerate(self.bad_words_token_ids):
            holds = 1 <= len(word) <= MAX_BAD_WORD_TOKENS
            _check(f"bad_words_token_ids[{index}]'s length", len(word), limit, holds)

    def _check_constraint(self, constraint: Constraint) -> None:
        """Where what else rules tokens out may leave none, it is refused."""
        constraint.check()
        none = "where sampling.constraint is set: the grammar says what may come"
        _check("min_tokens", self.min_tokens, f"0 {none}", self.min_tokens == 0)
        allowed = len(self.allowed_token_ids)
        _check("allowed_token_ids' length", allowed, f"0 {none}", allowed == 0)


def _check(name: str, value: float, limit: str, holds: bool) -> None:
    if not holds:  # NaN compares false, so it ends here too
        raise InvalidArgument.of(f"sampling.{name}", value, limit)
