"""What is said of one session on the wire, as plain values."""

from dataclasses import dataclass

from paceline.protocol.sampling import SamplingParams
from paceline.protocol.vocabulary import VocabularyMap


@dataclass(frozen=True, slots=True)
class Opening:
    """A session to open: paceline.v1.Open. vocabulary: a draft's, where ids are not the same.

    no_wait: it is refused rather than to wait for KV.
    """

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
    no_wait: bool = False

    @property
    def max_length(self) -> int:
        """Most tokens of prompt and output together."""
        return len(self.prompt_token_ids) + self.max_tokens


@dataclass(frozen=True, slots=True)
class Opened:
    """A session that was opened."""

    fingerprint: str


@dataclass(frozen=True, slots=True)
class Load:
    """What a server has on its hands. waiting: sessions open that have no KV yet."""

    sessions: int = 0
    queued: int = 0
    batched_tokens: int = 0
    kv_pages_used: int = 0
    kv_pages_total: int = 0
    waiting: int = 0

    @property
    def kv_share(self) -> float:
        """Of KV that is promised, 0 to 1."""
        return self.kv_pages_used / self.kv_pages_total if self.kv_pages_total else 0.0


@dataclass(frozen=True, slots=True)
class CostModel:
    """Seconds of a step: step_seconds + token_seconds * batched tokens."""

    step_seconds: float
    token_seconds: float


@dataclass(frozen=True, slots=True)
class Progress:
    """A sign of life. waiting: the session waits for KV."""

    engine_steps: int
    prefilled_tokens: int
    load: Load
    waiting: bool = False
