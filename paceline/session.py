"""What is said of one session on the wire, as plain values."""

import enum
import hashlib
import json
import math
from dataclasses import dataclass, field, replace
from functools import reduce

from paceline.hashing import mix
from paceline.sampling import SamplingParams
from paceline.vocabulary import VocabularyMap


@dataclass(frozen=True, slots=True)
class Opening:
    """A session to open: paceline.v1.Open. vocabulary: a draft's, where ids are not the same."""

    request_id: str
    prompt_token_ids: tuple[int, ...]
    sampling: SamplingParams
    seed: int
    max_tokens: int
    output_token_ids: tuple[int, ...] = ()
    stop_token_ids: frozenset[int] = frozenset()
    required_features: tuple[str, ...] = ()
    fingerprint: str = ""
    logprobs: int | None = None
    prompt_logprobs: int | None = None
    cache_salt: str = ""
    priority: int = 0
    vocabulary: VocabularyMap | None = None

    @property
    def max_length(self) -> int:
        """Most tokens of prompt and output together."""
        return len(self.prompt_token_ids) + self.max_tokens


@dataclass(frozen=True, slots=True)
class Opened:
    """A session that was opened."""

    fingerprint: str


class Drafter(enum.Enum):
    """What proposes: a draft model, or lookup of what followed the same tokens before."""

    MODEL = "model"
    NGRAM = "ngram"


@dataclass(frozen=True, slots=True)
class Proposal:
    """A run of draft tokens on the path whose digest before `position` is `base_digest`.

    confidences: per token how sure the drafter is, on its own scale. A model: the margin
    between its two best noisy scores. Lookup: tokens that matched.
    One that begins before the end of the guesses and differs from them is an alternative to
    them: it is for the case that the target rejects the guess at its position.
    """

    position: int
    base_digest: int
    token_ids: tuple[int, ...]
    confidences: tuple[float, ...] = ()
    drafter: Drafter = Drafter.MODEL


End = tuple[int, int, Drafter]
"""Position and digest behind a proposal, and who made it."""


def joined(proposals: list[Proposal]) -> list[Proposal]:
    """The same guesses in as few proposals as can be: of one path and one drafter each.

    An empty one stays where it is: it speaks of what came before it.
    """
    result: list[Proposal] = []
    ends: dict[End, int] = {}
    for proposal in proposals:
        begin = (proposal.position, proposal.base_digest, proposal.drafter)
        if not proposal.token_ids:
            ends.clear()
            result.append(proposal)
            continue
        index = ends.pop(begin, len(result))
        if index == len(result):
            result.append(proposal)
        else:
            result[index] = continued(result[index], proposal)
        ends[end_of(proposal)] = index
    return result


def continued(first: Proposal, second: Proposal) -> Proposal:
    """Both as one; `second` begins where `first` ends."""
    return replace(
        first,
        token_ids=first.token_ids + second.token_ids,
        confidences=first.confidences + second.confidences,
    )


def end_of(proposal: Proposal) -> End:
    """Position and digest behind a proposal, which one that continues it begins with."""
    digest = reduce(mix, proposal.token_ids, proposal.base_digest)
    return proposal.position + len(proposal.token_ids), digest, proposal.drafter


@dataclass(frozen=True, slots=True)
class TokenLogprob:
    """A token that could have been there. text: taken alone, for clients only."""

    token_id: int
    logprob: float
    text: str = ""


@dataclass(frozen=True, slots=True)
class TokenLogprobs:
    """Log-softmax of the target's raw logits at one position: the token there, and the best."""

    logprob: float
    top: tuple[TokenLogprob, ...] = ()


@dataclass(frozen=True, slots=True)
class PromptLogprobs:
    """Logprobs of the prompt's tokens from `position` on; position 0 has none."""

    position: int
    tokens: tuple[TokenLogprobs, ...]


@dataclass(frozen=True, slots=True)
class Verify:
    """One step asked of the target, then `continue_steps` plain ones."""

    proposals: tuple[Proposal, ...] = ()
    continue_steps: int = 0


@dataclass(frozen=True, slots=True)
class Advance:
    """Tokens confirmed from `position` on, and how far beyond them the draft may run.

    lookup_window: the same for what lookup guesses, which costs next to nothing. due_seconds:
    when guesses are wanted; until the next of these moments they may wait for each other.
    awaited: guesses that are waited for; so many go at once. alternatives: so many the draft
    may work on at a time, beside its guesses.
    """

    position: int
    token_ids: tuple[int, ...]
    window: int
    lookup_window: int = 0
    due_seconds: tuple[float, ...] = ()
    awaited: int = 0
    alternatives: int = 0


@dataclass(frozen=True, slots=True)
class Load:
    """What a server has on its hands."""

    sessions: int = 0
    queued: int = 0
    step_rows: int = 0
    kv_pages_used: int = 0
    kv_pages_total: int = 0


@dataclass(frozen=True, slots=True)
class CostModel:
    """Seconds of a step: step_seconds + row_seconds * rows."""

    step_seconds: float
    row_seconds: float


@dataclass(frozen=True, slots=True)
class Progress:
    """A sign of life."""

    engine_steps: int
    rows_prefilled: int
    load: Load


@dataclass(frozen=True, slots=True)
class Verdict:
    """The outcome of one step: accepted tokens, then the target's own.

    proposal_index is None for a plain step. The target's own token is absent only when
    an accepted token ended the output. logprobs: of each token, when asked for.
    cached_tokens: of the prompt, that needed no prefill; on the first verdict only.
    Of the receiver alone, not on the wire: arrived_seconds, when it came, on its own clock;
    asked_seconds, when the step was asked for; codec_seconds, to and from messages.
    """

    position: int
    token_ids: tuple[int, ...]
    verified: int = 0
    accepted: int = 0
    proposal_index: int | None = None
    step_seconds: float = 0.0
    load: Load = field(default_factory=Load)
    cost_model: CostModel | None = None
    logprobs: tuple[TokenLogprobs, ...] = ()
    cached_tokens: int = 0
    sampling_seconds: float = 0.0
    queue_seconds: float = 0.0
    arrived_seconds: float = 0.0
    asked_seconds: float = 0.0
    codec_seconds: float = 0.0

    def head(self, count: int) -> "Verdict":
        """As if it had decided only the first `count` of its tokens: those behind do not count."""
        if count == len(self.token_ids):
            return self
        return replace(
            self,
            token_ids=self.token_ids[:count],
            verified=min(self.verified, count),
            accepted=min(self.accepted, count),
            logprobs=self.logprobs[:count],
        )

    def origins(self) -> "tuple[Origin, ...]":
        """Where each of token_ids came from."""
        own = len(self.token_ids) - self.accepted
        return (Origin.ACCEPTED,) * self.accepted + (self._own_origin,) * own

    @property
    def _own_origin(self) -> "Origin":
        if not self.verified:
            return Origin.PLAIN
        return Origin.BONUS if self.accepted == self.verified else Origin.RECOVERED


class Origin(enum.Enum):
    """Where a token came from."""

    ACCEPTED = "accepted"
    RECOVERED = "recovered"
    BONUS = "bonus"
    PLAIN = "plain"


@dataclass(frozen=True, slots=True)
class KVSize:
    """KV of a server, in pages of page_tokens: a session takes whole ones.

    reserve: of the pages, kept for streams that come from a lost server.
    """

    page_tokens: int
    pages: int
    reserve: int = 0

    def pages_of(self, length: int) -> int:
        """Pages that so many tokens take."""
        return math.ceil(length / self.page_tokens)

    def pages_for(self, *, resumes: bool) -> int:
        """Pages there are for sessions that resume, or for new ones."""
        return self.pages if resumes else self.pages - self.reserve

    def most(self, *, resumes: bool) -> int:
        """Most tokens of prompt and output that one session can ever have."""
        return max(0, self.page_tokens * self.pages_for(resumes=resumes))


@dataclass(frozen=True, slots=True)
class Cores:
    """Cores that a forward pass may use.

    boot_id: of the machine since it started, the same in all its containers; empty: unknown.
    cpus: their numbers there; none where a device of its own computes. limit: so many of them at
    a time, by the container's share of time.
    """

    boot_id: str
    cpus: tuple[int, ...]
    limit: float

    def contend(self, other: "Cores") -> bool:
        """Whether both may want the same ones at a time: on one machine, and more than it has."""
        if self.boot_id != other.boot_id or not set(self.cpus) & set(other.cpus):
            return False
        return self.limit + other.limit > len(set(self.cpus) | set(other.cpus))


@dataclass(frozen=True, slots=True)
class ModelInfo:
    """A model and its numerics: paceline.v1.ModelInfo. kv, cores: None where it was not said."""

    name: str
    fingerprint: str
    vocabulary_hash: str
    vocabulary_size: int
    max_positions: int
    eos_token_ids: tuple[int, ...]
    law_version: int
    row_exact: bool
    host: str
    features: tuple[str, ...] = ()
    max_proposals: int = 1
    kv: KVSize | None = None
    cores: Cores | None = None
    tokenizer_hash: str = ""

    def shares_cores(self, other: "ModelInfo") -> bool:
        """Whether its server and another one had better take turns.

        By the machine's name only where more is not known: containers of one machine have names
        of their own, and those of two machines may have the same.
        """
        if self.cores is None or other.cores is None:
            return self.host == other.host
        if self.cores.boot_id and other.cores.boot_id:
            return self.cores.contend(other.cores)
        computes = bool(self.cores.cpus and other.cores.cpus)
        return computes and self.host == other.host


@dataclass(frozen=True, slots=True)
class Machine:
    """What a server process says of itself and its machine: paceline.v1.Machine.

    process: names the process; empty where its version knows of no such name.
    """

    version: str
    host: str
    cores: int
    threads: int
    memory_bytes: int
    memory_available_bytes: int
    unix_seconds: float
    process: str = ""


@dataclass(frozen=True, slots=True)
class TokenizerFiles:
    """A tokenizer as a server sends it.

    tokenizer_json: Hugging Face tokenizers' file. chat_template: Jinja, or empty.
    special_tokens: names the template may use, such as bos_token. named_templates: others
    than the default one, such as tool_use.
    """

    tokenizer_json: bytes
    chat_template: str
    special_tokens: dict[str, str]
    named_templates: dict[str, str] = field(default_factory=dict)

    @property
    def digest(self) -> str:
        """Hash of all of it: files that differ in anything are others."""
        digest = hashlib.sha256(self.tokenizer_json)
        others = (self.chat_template, self.special_tokens, self.named_templates)
        digest.update(json.dumps(others, sort_keys=True).encode())
        return digest.hexdigest()[:16]
