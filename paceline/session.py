"""What is said of one session on the wire, as plain values."""

import enum
from dataclasses import dataclass, field

from paceline.sampling import SamplingParams


@dataclass(frozen=True, slots=True)
class Opening:
    """A session to open: paceline.v1.Open."""

    request_id: str
    prompt_token_ids: tuple[int, ...]
    sampling: SamplingParams
    seed: int
    max_tokens: int
    output_token_ids: tuple[int, ...] = ()
    stop_token_ids: frozenset[int] = frozenset()
    required_features: tuple[str, ...] = ()
    fingerprint: str = ""

    @property
    def max_length(self) -> int:
        """Most tokens of prompt and output together."""
        return len(self.prompt_token_ids) + self.max_tokens


@dataclass(frozen=True, slots=True)
class Opened:
    """A session that was opened."""

    fingerprint: str
    cached_tokens: int


@dataclass(frozen=True, slots=True)
class Proposal:
    """A run of draft tokens on the path whose digest before `position` is `base_digest`.

    confidences: per token the margin between the draft's two best noisy scores.
    """

    position: int
    base_digest: int
    token_ids: tuple[int, ...]
    confidences: tuple[float, ...] = ()


@dataclass(frozen=True, slots=True)
class Verify:
    """One step asked of the target, then `continue_steps` plain ones."""

    proposals: tuple[Proposal, ...] = ()
    continue_steps: int = 0


@dataclass(frozen=True, slots=True)
class Advance:
    """Tokens confirmed from `position` on, and how far beyond them the draft may run."""

    position: int
    token_ids: tuple[int, ...]
    window: int


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
    an accepted token ended the output.
    """

    position: int
    token_ids: tuple[int, ...]
    verified: int = 0
    accepted: int = 0
    proposal_index: int | None = None
    step_seconds: float = 0.0
    load: Load = field(default_factory=Load)
    cost_model: CostModel | None = None

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
class ModelInfo:
    """A model and its numerics: paceline.v1.ModelInfo."""

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


@dataclass(frozen=True, slots=True)
class TokenizerFiles:
    """A tokenizer as a server sends it.

    tokenizer_json: Hugging Face tokenizers' file. chat_template: Jinja, or empty.
    special_tokens: names the template may use, such as bos_token.
    """

    tokenizer_json: bytes
    chat_template: str
    special_tokens: dict[str, str]
