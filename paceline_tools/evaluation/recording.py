"""Recordings: what a candidate drafts along a target's own output, and what things take. Pure.

Each position has the draft token that the candidate makes when all tokens before it are the
target's. That is all that any policy needs: what it drafts behind a wrong one is never
accepted.
"""

import statistics
from collections.abc import Sequence
from itertools import takewhile
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, Field, ValidationError

from draft_server.drafters.registry import DrafterName
from paceline.errors import InvalidArgument, shown
from paceline.limits import told
from paceline.protocol.proposal import Drafter, DraftToken
from paceline_tools.evaluation.candidates import DraftCandidate, Weights
from paceline_tools.evaluation.setting import USUAL_DTYPE
from paceline_tools.simulation.world import WRONG, truth

POSITIONS = 16
"""Draft positions for which acceptance is told."""
_SIGNS = {
    (Drafter.MODEL, True): "M",
    (Drafter.MODEL, False): "m",
    (Drafter.NGRAM, True): "N",
    (Drafter.NGRAM, False): "n",
}
_MEANING = {sign: meaning for meaning, sign in _SIGNS.items()}
_NOTHING = "."
Seconds = Annotated[float, Field(ge=0)]


class TargetCosts(BaseModel, frozen=True, populate_by_name=True):
    """What the target's steps take, in seconds.

    verify: by draft tokens verified, 0 and up, medians. prompt_token: of prefill, each token.
    round_trip: from a request to its verdict, beyond the step. verify_token: the verification cost
    per token, by the target itself; `row` in a file.
    """

    verify: dict[int, Seconds]
    prompt_token: Seconds
    round_trip: Seconds
    verify_token: Annotated[float, Field(ge=0, alias="row")]

    @property
    def step(self) -> float:
        """Of an ordinary decode step."""
        return self.verify[0]


class DraftCosts(BaseModel, frozen=True):
    """What a draft's draft tokens take, in seconds.

    step: each further draft token. restart: from the news to the first draft token, the round trip
    included. prompt_token: of the prompt, each token.
    """

    step: Seconds
    restart: Seconds
    prompt_token: Seconds

    @property
    def round_trip(self) -> float:
        """To the draft server and back."""
        return max(0.0, self.restart - self.step)


class RecordedOutput(BaseModel, frozen=True):
    """The draft tokens along one output.

    draft tokens: a sign for each position of the output. M and m: the model drafted, right and
    wrong; N and n: lookup did; a dot: nothing was drafted. confidences: of those that were.
    """

    kind: str
    prompt_tokens: Annotated[int, Field(ge=1)]
    draft_tokens: Annotated[str, Field(pattern=r"^[MmNn.]+$")]
    confidences: tuple[float, ...]

    @classmethod
    def of(
        cls,
        kind: str,
        prompt_tokens: int,
        draft_tokens: Sequence[DraftToken | None],
        token_ids: Sequence[int],
    ) -> "RecordedOutput":
        """Of what was drafted at each position of the output, whose tokens are token_ids."""
        made = [token for token in draft_tokens if token is not None]
        pairs = zip(draft_tokens, token_ids, strict=True)
        return cls(
            kind=kind,
            prompt_tokens=prompt_tokens,
            draft_tokens="".join(_sign(token, true_id) for token, true_id in pairs),
            confidences=tuple(round(token.confidence, 3) for token in made),
        )

    def unpacked(self) -> tuple[DraftToken | None, ...]:
        """The draft token for each position of the output; None where there was none.

        Ids are not recorded: they are the simulation's, for a right token and a wrong one.
        """
        confidences = iter(self.confidences)
        return tuple(
            None if sign == _NOTHING else _drafted(sign, next(confidences), position)
            for position, sign in enumerate(self.draft_tokens, self.prompt_tokens)
        )

    def head(self, tokens: int) -> "RecordedOutput":
        """Its first `tokens` positions, or all."""
        draft_tokens = self.draft_tokens[:tokens]
        made = len(draft_tokens) - draft_tokens.count(_NOTHING)
        known = self.confidences[:made]
        return self.model_copy(update={"draft_tokens": draft_tokens, "confidences": known})

    @property
    def right(self) -> tuple[bool, ...]:
        """By position, whether the target's token was drafted."""
        return tuple(sign.isupper() for sign in self.draft_tokens)

    @property
    def tokens_per_step(self) -> float:
        """Where each right draft token is at hand: a step accepts a run of them and adds one."""
        at, steps, right = 0, 0, self.right
        while at < len(right):
            run = takewhile(bool, right[at : at + POSITIONS])
            at, steps = at + sum(run) + 1, steps + 1
        return len(right) / steps if steps else 1.0


class Recording(BaseModel, frozen=True):
    """One candidate along a target's outputs.

    shares_host: whether draft and target ran on one machine. model, weights: the draft's; empty
    for lookup alone, and in older files. dtype: of both.
    """

    target: str
    candidate: str
    drafter: DrafterName
    shares_host: bool
    target_costs: TargetCosts
    draft_costs: DraftCosts
    outputs: Annotated[tuple[RecordedOutput, ...], Field(min_length=1)]
    model: str = ""
    weights: Weights = "int4"
    dtype: str = USUAL_DTYPE

    @property
    def draft_candidate(self) -> DraftCandidate:
        """What was recorded."""
        return DraftCandidate(self.candidate, self.drafter, self.model, self.weights)

    @property
    def kinds(self) -> list[str]:
        """Kinds of prompts, in order."""
        return list(dict.fromkeys(output.kind for output in self.outputs))

    def of(self, kind: str) -> list[RecordedOutput]:
        """Outputs of one kind; of all."""
        return [output for output in self.outputs if kind in {"all", output.kind}]

    def acceptance(self, kind: str = "all") -> float:
        """Share of draft tokens that are the target's token; 0 without any."""
        signs = "".join(output.draft_tokens for output in self.of(kind))
        made = len(signs) - signs.count(_NOTHING)
        return sum(sign.isupper() for sign in signs) / made if made else 0.0

    def coverage(self, kind: str = "all") -> float:
        """Share of positions for which something was drafted."""
        signs = "".join(output.draft_tokens for output in self.of(kind))
        return 1.0 - signs.count(_NOTHING) / len(signs)

    def ceiling(self, kind: str = "all") -> float:
        """Most that its tokens can bring, if they cost nothing: a mean as of speed-ups."""
        return statistics.geometric_mean(output.tokens_per_step for output in self.of(kind))

    def by_position(self, kind: str = "all") -> tuple[float, ...]:
        """Acceptance by draft position, all before it accepted; rounds begin anywhere."""
        verified, accepted = [0] * POSITIONS, [0] * POSITIONS
        for output in self.of(kind):
            for start in range(len(output.draft_tokens)):
                for position, sign in enumerate(output.draft_tokens[start : start + POSITIONS]):
                    verified[position] += sign != _NOTHING
                    accepted[position] += sign.isupper()
                    if not sign.isupper():
                        break
        pairs = zip(accepted, verified, strict=True)
        return tuple(right / made for right, made in pairs if made)


class Recordings(BaseModel, frozen=True):
    """A file of recordings, of one target."""

    recordings: Annotated[tuple[Recording, ...], Field(min_length=1)]

    def save(self, path: Path) -> None:
        """Write them as JSON."""
        path.write_text(self.model_dump_json(indent=1, by_alias=True) + "\n")


def load_recordings(path: Path) -> tuple[Recording, ...]:
    """Recordings of a file that save has written; InvalidArgument when it is none."""
    try:
        return Recordings.model_validate_json(path.read_bytes()).recordings
    except OSError as error:
        raise InvalidArgument(f"{path} has no recordings: {error.strerror}") from error
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(map(str, first["loc"]))
        what = f"{where} is {shown(first['input'])}{told(first)}" if where else str(first["msg"])
        raise InvalidArgument(f"{path} has no recordings: {what}") from error


def _sign(token: DraftToken | None, true_id: int) -> str:
    return _NOTHING if token is None else _SIGNS[token.drafter, token.id == true_id]


def _drafted(sign: str, confidence: float, position: int) -> DraftToken:
    drafter, right = _MEANING[sign]
    return DraftToken(truth(position) if right else WRONG, confidence, drafter)
