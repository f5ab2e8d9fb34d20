"""Recordings: what a candidate guesses along a target's own output, and what things take. Pure.

Each position has the guess that the candidate makes when all tokens before it are the target's.
That is all that any policy needs: what it guesses behind a wrong one is never accepted.
"""

from itertools import takewhile
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, Field, ValidationError

from orchestrator.speculation.acceptance import Guessed
from paceline.errors import InvalidArgument
from paceline.protocol.proposal import Drafter

PLACES = 16
"""Places of a round for which acceptance is told."""
_SIGNS = {
    (Drafter.MODEL, True): "M",
    (Drafter.MODEL, False): "m",
    (Drafter.NGRAM, True): "N",
    (Drafter.NGRAM, False): "n",
}
_MEANING = {sign: meaning for meaning, sign in _SIGNS.items()}
_NOTHING = "."
Seconds = Annotated[float, Field(ge=0)]


class TargetCosts(BaseModel, frozen=True):
    """What the target's steps take, in seconds.

    verify: by draft tokens verified, 0 and up, medians. prompt_token: of prefill, each token.
    round_trip: from a request to its verdict, beyond the step. row: what the target itself says
    that each further row of a step costs.
    """

    verify: dict[int, Seconds]
    prompt_token: Seconds
    round_trip: Seconds
    row: Seconds

    @property
    def step(self) -> float:
        """Of a plain step."""
        return self.verify[0]


class DraftCosts(BaseModel, frozen=True):
    """What a draft's guesses take, in seconds.

    step: each further guess. restart: from the news to the first guess, the way to the draft
    and back included. prompt_token: of the prompt, each token.
    """

    step: Seconds
    restart: Seconds
    prompt_token: Seconds

    @property
    def round_trip(self) -> float:
        """To the draft server and back."""
        return max(0.0, self.restart - self.step)


class RecordedOutput(BaseModel, frozen=True):
    """The guesses along one output.

    guesses: a sign for each position of the output. M and m: the model guessed, right and wrong;
    N and n: lookup did; a dot: nothing was guessed. confidences: of those that were.
    """

    kind: str
    prompt_tokens: Annotated[int, Field(ge=1)]
    guesses: Annotated[str, Field(pattern=r"^[MmNn.]+$")]
    confidences: tuple[float, ...]

    @classmethod
    def of(cls, kind: str, prompt_tokens: int, guesses: list[Guessed | None]) -> "RecordedOutput":
        """Of what was guessed at each position."""
        made = [guess for guess in guesses if guess is not None]
        return cls(
            kind=kind,
            prompt_tokens=prompt_tokens,
            guesses="".join(_sign(guess) for guess in guesses),
            confidences=tuple(round(guess.confidence, 3) for guess in made),
        )

    def unpacked(self) -> tuple[Guessed | None, ...]:
        """The guess for each position of the output; None where there was none."""
        confidences = iter(self.confidences)
        return tuple(
            None if sign == _NOTHING else _guessed(sign, next(confidences)) for sign in self.guesses
        )

    @property
    def right(self) -> tuple[bool, ...]:
        """By position, whether the target's token was guessed."""
        return tuple(sign.isupper() for sign in self.guesses)


class Recording(BaseModel, frozen=True):
    """One candidate along a target's outputs.

    shares_host: whether draft and target ran on one machine.
    """

    target: str
    candidate: str
    drafter: Literal["model", "ngram", "hybrid"]
    shares_host: bool
    target_costs: TargetCosts
    draft_costs: DraftCosts
    outputs: Annotated[tuple[RecordedOutput, ...], Field(min_length=1)]

    @property
    def kinds(self) -> list[str]:
        """Kinds of prompts, in order."""
        return list(dict.fromkeys(output.kind for output in self.outputs))

    def of(self, kind: str) -> list[RecordedOutput]:
        """Outputs of one kind; of all."""
        return [output for output in self.outputs if kind in {"all", output.kind}]

    def acceptance(self, kind: str = "all") -> float:
        """Share of guesses that are the target's token; 0 without any."""
        signs = "".join(output.guesses for output in self.of(kind))
        made = len(signs) - signs.count(_NOTHING)
        return sum(sign.isupper() for sign in signs) / made if made else 0.0

    def coverage(self, kind: str = "all") -> float:
        """Share of positions for which something was guessed."""
        signs = "".join(output.guesses for output in self.of(kind))
        return 1.0 - signs.count(_NOTHING) / len(signs)

    def ceiling(self, kind: str = "all") -> float:
        """Most that its guesses can bring, if they and their rows cost nothing: tokens a step."""
        tokens = steps = 0
        for output in self.of(kind):
            at, right = 0, output.right
            while at < len(right):
                run = takewhile(bool, right[at : at + PLACES])
                at, steps = at + sum(run) + 1, steps + 1
            tokens += len(right)
        return tokens / steps

    def by_place(self, kind: str = "all") -> tuple[float, ...]:
        """Acceptance by place in a round, all before it accepted; rounds begin anywhere."""
        verified, accepted = [0] * PLACES, [0] * PLACES
        for output in self.of(kind):
            for start in range(len(output.guesses)):
                for place, sign in enumerate(output.guesses[start : start + PLACES]):
                    verified[place] += sign != _NOTHING
                    accepted[place] += sign.isupper()
                    if not sign.isupper():
                        break
        pairs = zip(accepted, verified, strict=True)
        return tuple(right / made for right, made in pairs if made)


class Recordings(BaseModel, frozen=True):
    """A file of recordings, of one target."""

    recordings: Annotated[tuple[Recording, ...], Field(min_length=1)]

    def save(self, path: Path) -> None:
        """Write them as JSON."""
        path.write_text(self.model_dump_json(indent=1) + "\n")


def load_recordings(path: Path) -> tuple[Recording, ...]:
    """Recordings of a file that save has written; InvalidArgument when it is none."""
    try:
        return Recordings.model_validate_json(path.read_bytes()).recordings
    except OSError as error:
        raise InvalidArgument(f"{path} has no recordings: {error.strerror}") from error
    except ValidationError as error:
        first = error.errors(include_input=False)[0]
        where = ".".join(map(str, first["loc"]))
        raise InvalidArgument(f"{path} has no recordings: {where}: {first['msg']}") from error


def _sign(guess: Guessed | None) -> str:
    return _NOTHING if guess is None else _SIGNS[guess.drafter, guess.right]


def _guessed(sign: str, confidence: float) -> Guessed:
    drafter, right = _MEANING[sign]
    return Guessed(right, confidence, drafter)
