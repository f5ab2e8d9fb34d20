"""A simulated model: stated times, acceptance and margins, and no weights.

Servers, protocol and pacing around it are the real ones. So they can be tried on any machine with a
GPU's times, any acceptance and thousands of streams.
"""

import math
import socket
import time
from collections.abc import Mapping, Sequence
from itertools import accumulate
from os import getpid
from typing import Annotated, Any

import numpy as np
from prometheus_client import CollectorRegistry
from pydantic import BaseModel, BeforeValidator, Field, ValidationError
from tokenizers import Tokenizer, decoders, models, pre_tokenizers

from paceline.engine.interfaces import PAGE_TOKENS, KVCache, Logits, Span, SpanBranch, StartedEngine
from paceline.engine.sampling.sampler import SAMPLER_VERSION
from paceline.engine.settings import EngineSettings
from paceline.engine.worker import start_worker
from paceline.errors import InvalidArgument
from paceline.nearest import nearest
from paceline.protocol.features import ALLOWED_TOKEN_IDS, BAD_WORDS, BRANCHES
from paceline.protocol.hashing import mix
from paceline.protocol.model import Cores, ModelInfo, TokenizerFiles
from paceline.protocol.token_path import TokenPath

PREFIX = "simulated"
"""What a model's name begins with, alone or before a colon and NAME=VALUE,NAME=VALUE."""
MAX_POSITIONS = 32768
MOST_MS = 60_000
MOST_SEED = 2**31 - 1
_LETTERS = np.frombuffer(b"abcdefghijklmnopqrstuvwxyz      ", np.uint8).astype(np.int64)
_SURE = 40.0
_OVERSLEPT = 2e-4
"""Most seconds by which a step is shortened for the last one's: more is a busy machine."""
_SECOND = 1.0
"""Score of the second best draft token; all others have 0."""


def _numbers(value: object) -> object:
    return tuple(value.split("/")) if isinstance(value, str) else value


Chance = Annotated[float, Field(ge=0, le=1)]


class SimulatedModel(BaseModel, extra="forbid", frozen=True):
    """What is stated of it. The target's tokens are a hash; the draft knows as many as stated.

    For greedy outputs: with a temperature the acceptance is lower than stated.
    """

    step_ms: float = Field(25.0, ge=0, le=MOST_MS, description="A step with one row.")
    token_ms: float = Field(0.0, ge=0, le=MOST_MS, description="Each further row of a step.")
    acceptance: Annotated[tuple[Chance, ...], BeforeValidator(_numbers)] = Field(
        (1.0,),
        description="How likely a draft token is the target's token: one value, or several with "
        "slashes between them, each for phase_tokens positions, in turn.",
    )
    phase_tokens: int = Field(256, ge=1, le=MAX_POSITIONS, description="Positions of a phase.")
    auc: float = Field(
        0.91, gt=0.5, lt=1, description="How well margins tell right draft tokens from wrong ones."
    )
    second_acceptance: float = Field(
        0.47,
        ge=0,
        le=1,
        description="How likely the second best token is the target's token where the best is "
        "not; as measured on the real pair.",
    )
    seed: int = Field(
        0,
        ge=0,
        le=MOST_SEED,
        description="Of the target's tokens: equal for target and draft.",
    )

    @classmethod
    def parse(cls, name: str) -> "SimulatedModel":
        """Of a model's name; InvalidArgument naming the first field that is wrong."""
        pairs = [pair.partition("=") for pair in name.removeprefix(PREFIX).lstrip(":").split(",")]
        try:
            return cls.model_validate({key: value for key, _, value in pairs if key})
        except ValidationError as error:
            problem = error.errors()[0]
        field = str(problem["loc"][0])
        limits = {name: _limits(its) for name, its in cls.model_json_schema()["properties"].items()}
        if field in limits:
            raise InvalidArgument.of(f"{PREFIX}:{field}", problem["input"], limits[field])
        if near := nearest(field, limits):
            what = f"did you mean {near} ({limits[near]})?"
        else:
            known = ", ".join(f"{name} ({limit})" for name, limit in limits.items())
            what = f"there are {known}"
        raise InvalidArgument(f"{PREFIX}:{field} is no parameter; {what}")

    def seconds(self, rows: int) -> float:
        """Of a step of so many rows."""
        return (self.step_ms + self.token_ms * (rows - 1)) / 1e3

    def chance(self, position: int) -> float:
        """That the draft token for `position` is right."""
        return self.acceptance[position // self.phase_tokens % len(self.acceptance)]

    def truth(self, path: int) -> int:
        """The target's token behind the path with this digest."""
        return int(_LETTERS[mix(mix(0, self.seed), path) % _LETTERS.size])

    def draft_token(self, path: int, position: int) -> tuple[int, float]:
        """The draft's token there, and its margin: exponential, larger where it is right."""
        state = mix(mix(mix(0, self.seed), path), 1)
        right = _uniform(state) < self.chance(position)
        mean = 4 * (self.auc if right else 1 - self.auc)
        margin = -math.log(1 - _uniform(mix(state, 2))) * mean
        truth = self.truth(path)
        return (truth if right else ord("A") + truth % 26), min(margin, _SURE)

    def second(self, path: int, draft_token: int) -> int:
        """The draft's second best token there, its best being `draft_token`."""
        truth = self.truth(path)
        if draft_token == truth:
            return ord("A") + truth % 26
        state = mix(mix(mix(0, self.seed), path), 3)
        return truth if _uniform(state) < self.second_acceptance else ord("0") + truth % 10


def _limits(schema: Mapping[str, Any]) -> str:
    """The numbers that a field may have, in words. schema: as JSON Schema says it."""
    if "items" in schema:
        return f"{_limits(schema['items'])}, or several with / between them"
    kind = "a whole number" if schema["type"] == "integer" else "a number"
    if "exclusiveMinimum" in schema:
        return f"{kind} between {schema['exclusiveMinimum']:g} and {schema['exclusiveMaximum']:g}"
    return f"{kind} from {schema['minimum']:.10g} to {schema['maximum']:.10g}"


class PathCache(TokenPath):
    """A KV cache that has nothing but tokens."""

    rope_length = 0
    _branches: tuple[SpanBranch, ...] = ()

    @property
    def length(self) -> int:
        """How many it has."""
        return len(self)

    def copy(self, length: int) -> "PathCache":
        """Another one, with the first `length`."""
        return PathCache(self.tokens[:length])

    def truncate(self, length: int) -> None:
        """See KVCache."""
        super().truncate(length)
        self._branches = ()

    def begin(self, span: Span) -> None:
        """The span's tokens are in it, and its branches may be taken."""
        self.truncate(span.position)
        self.extend(span.token_ids)
        self._branches = span.branches

    def take_branch(self, index: int) -> None:
        """See BranchingCache."""
        branch = self._branches[index]
        self.truncate(branch.position)
        self.extend(branch.token_ids)


def is_simulated(name: str) -> bool:
    """Whether a name is that of a simulated model."""
    return name.partition(":")[0] == PREFIX


class SimulatedRunner:
    """A Runner that takes the stated time."""

    page_tokens = PAGE_TOKENS

    def __init__(self, model: SimulatedModel, *, drafts: bool) -> None:
        """drafts: give the draft's logits, not the target's."""
        self._model = model
        self._drafts = drafts
        self._overslept = 0.0

    def new_cache(self, max_length: int = 0) -> PathCache:
        """An empty cache."""
        return PathCache()

    def forward(self, batch: Sequence[tuple[KVCache, Span]]) -> list[Logits]:
        """See paceline.engine.interfaces.Runner. The stated time includes that of computing."""
        started = time.perf_counter()
        rows = sum(span.rows for _, span in batch)
        logits = [self._span(cache, span) for cache, span in batch]
        # Sleep takes longer than asked for: the next step is shortened by that.
        due = started + self._model.seconds(rows) - self._overslept
        time.sleep(max(0.0, due - time.perf_counter()))
        self._overslept = min(_OVERSLEPT, time.perf_counter() - due)
        return logits

    def _span(self, cache: KVCache, span: Span) -> Logits:
        if not isinstance(cache, PathCache):
            raise TypeError(f"{type(cache).__name__} is not of this runner")
        cache.begin(span)
        first = cache.length - span.logit_rows + 1
        places = [(at, cache.digest_before(at)) for at in range(first, cache.length + 1)]
        for branch in span.branches:
            digests = accumulate(
                branch.token_ids, mix, initial=cache.digest_before(branch.position)
            )
            places += list(enumerate(digests, branch.position))[1:]
        return self._rows(places)

    def _rows(self, places: Sequence[tuple[int, int]]) -> Logits:
        """Of the tokens that follow paths, each by its length and digest."""
        rows = np.zeros((len(places), VOCABULARY_SIZE), np.float32)
        for index, (position, path) in enumerate(places):
            if self._drafts:
                picked, margin = self._model.draft_token(path, position)
                rows[index, self._model.second(path, picked)] = _SECOND
                rows[index, picked] = _SECOND + margin
            else:
                rows[index, self._model.truth(path)] = _SURE
        return rows


def start_simulated(
    settings: EngineSettings, registry: CollectorRegistry, *, drafts: bool
) -> StartedEngine:
    """Start at once. Its cores are its own: simulated servers do not contend."""
    simulated = SimulatedModel.parse(settings.model)
    model = ModelInfo(
        name=settings.model_name or PREFIX,
        fingerprint=f"{PREFIX}-{simulated.seed}",
        vocabulary_hash=f"{PREFIX}-bytes",
        vocabulary_size=VOCABULARY_SIZE,
        max_positions=MAX_POSITIONS,
        eos_token_ids=(),
        sampler_version=SAMPLER_VERSION,
        features=(ALLOWED_TOKEN_IDS, BAD_WORDS, BRANCHES),  # its logprobs would say nothing
        batch_invariant=True,
        host=f"{socket.gethostname()}/{getpid()}",
        cores=Cores("", (), 0.0),
    )
    runner = SimulatedRunner(simulated, drafts=drafts)
    engine = start_worker(settings, runner, registry)
    return StartedEngine(engine, model, _tokenizer())


def _uniform(state: int) -> float:
    return state / 2**64


def _vocabulary() -> dict[str, int]:
    """A token for each byte, numbered as the byte where that is a letter of ASCII."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    printable = {chr(code): code for code in range(33, 127)} | {"\u0120": 32}
    rest = iter(sorted(set(range(len(alphabet))) - set(printable.values())))
    return {sign: printable[sign] if sign in printable else next(rest) for sign in alphabet}


VOCABULARY_SIZE = len(_vocabulary())


def _tokenizer() -> TokenizerFiles:
    tokenizer = Tokenizer(models.BPE(vocab=_vocabulary(), merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    template = "{% for message in messages %}{{ message.content }}\n{% endfor %}"
    return TokenizerFiles(tokenizer.to_str().encode(), template, {})
