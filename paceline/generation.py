"""What clients ask for and get, as plain values: paceline.v1.GenerationService's vocabulary."""

import enum
from dataclasses import dataclass, field
from typing import TypeAlias

from paceline.sampling import SamplingParams
from paceline.session import Origin


class Speculation(enum.Enum):
    """Whether draft tokens are used; the output is the same whatever is chosen."""

    OFF = "off"
    AUTO = "auto"
    FORCE = "force"


class FinishReason(enum.Enum):
    """Why an output ended."""

    STOP = "stop"
    LENGTH = "length"


@dataclass(frozen=True, slots=True)
class ChatMessage:
    """One message of a conversation."""

    role: str
    content: str


Prompt: TypeAlias = str | tuple[int, ...] | tuple[ChatMessage, ...]
"""Text, token ids or a conversation."""


@dataclass(frozen=True, slots=True)
class GenerateRequest:
    """An output asked for. Fields and limits are those of paceline.v1.GenerateRequest."""

    prompt: Prompt
    model: str = ""
    sampling: SamplingParams = field(default_factory=SamplingParams)
    seed: int | None = None
    max_tokens: int | None = None
    n: int = 1
    speculation: Speculation = Speculation.AUTO
    ignore_eos: bool = False
    required_features: tuple[str, ...] = ()
    output_token_ids: tuple[int, ...] = ()
    fingerprint: str = ""


@dataclass(frozen=True, slots=True)
class Started:
    """What is needed to repeat or resume a stream; comes before any token."""

    request_id: str
    model: str
    fingerprint: str
    seed: int
    prompt_token_ids: tuple[int, ...]
    max_tokens: int


@dataclass(frozen=True, slots=True)
class Token:
    """One token: its id, where it came from, and the text it completed."""

    id: int
    origin: Origin
    text: str


@dataclass(frozen=True, slots=True)
class Delta:
    """Tokens of one verdict; token_index is the first one's index in the output."""

    token_index: int
    tokens: tuple[Token, ...]

    @property
    def text(self) -> str:
        """Text of all its tokens."""
        return "".join(token.text for token in self.tokens)


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens, counted."""

    prompt_tokens: int
    output_tokens: int
    cached_tokens: int


@dataclass(frozen=True, slots=True)
class Statistics:
    """How a stream went, as the orchestrator saw it; times in seconds."""

    rounds: int = 0
    drafted: int = 0
    verified: int = 0
    accepted: int = 0
    accepted_by_place: tuple[int, ...] = ()
    verified_by_place: tuple[int, ...] = ()
    plain_steps: int = 0
    ttft_seconds: float = 0.0
    decode_seconds: float = 0.0
    overhead_seconds: float = 0.0

    @property
    def acceptance_rate(self) -> float:
        """Accepted of verified draft tokens; 0 when none was verified."""
        return self.accepted / self.verified if self.verified else 0.0

    @property
    def mean_accepted(self) -> float:
        """Accepted draft tokens per round; 0 without rounds."""
        return self.accepted / self.rounds if self.rounds else 0.0


@dataclass(frozen=True, slots=True)
class Finished:
    """The end of an output."""

    finish_reason: FinishReason
    usage: Usage
    statistics: Statistics

    @property
    def tokens_per_second(self) -> float:
        """Output tokens after the first, per second from the first to the last; 0 for one token."""
        seconds = self.statistics.decode_seconds
        return (self.usage.output_tokens - 1) / seconds if seconds > 0 else 0.0


@dataclass(frozen=True, slots=True)
class Model:
    """A model that can be asked for."""

    name: str
    fingerprint: str
    max_positions: int
    vocabulary_size: int
    drafts: int


GenerateEvent: TypeAlias = Started | Delta | Finished
