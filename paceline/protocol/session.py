"""What is said of one session on the wire, as plain values."""

from dataclasses import dataclass

from paceline.protocol.sampling import SamplingParams
from paceline.protocol.vocabulary import VocabularyMap
from paceline.values import value


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


@value(frozen=True, slots=True)
class Load:
    """What a server has on its hands. waiting: sessions open that have no KV yet."""

    sessions: int = 0
    queued: int = 0
    batched_tokens: int = 0
    kv_pages_used: int = 0
    kv_pages_total: int = 0
    waiting: int = 0

    @property
    def only_decodes(self) -> bool:
        """Whether the latest step read no prompt and verified no draft token: a row a session."""
        return self.batched_tokens <= self.sessions

    def kv_share(self, reserve: int = 0) -> float:
        """Of the KV for new streams, what is promised, 0 to 1. reserve: pages that are not theirs.

        Streams of lost servers may have the reserve too: that is 1 as well.
        """
        pages = self.kv_pages_total - reserve
        return min(1.0, self.kv_pages_used / pages) if pages > 0 else 0.0


@value(frozen=True, slots=True)
class CostModel:
    """Seconds of a step: step_seconds + token_seconds * batched tokens + branch_seconds * branches.

    branch_seconds: 0 before there was a branch.
    """

    step_seconds: float
    token_seconds: float
    branch_seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class Progress:
    """A sign of life. waiting: the session waits for KV."""

    engine_steps: int
    prefilled_tokens: int
    load: Load
    waiting: bool = False
