"""What clients ask for and get, as plain values: paceline.v1.GenerationService's vocabulary."""

import enum
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from paceline.protocol.sampling import Sampling, SamplingParams
from paceline.protocol.verdict import Origin, PromptLogprobs, TokenLogprobs
from paceline.values import value

JsonObject: TypeAlias = Mapping[str, Any]
"""What JSON can say of a thing, by name."""


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
    """One message of a conversation; content may be None beside tool_calls.

    tool_calls: of the assistant, in OpenAI's shape. tool_call_id: of a tool, which it answers.
    """

    role: str
    content: str | None = None
    name: str = ""
    tool_calls: Sequence[JsonObject] = ()
    tool_call_id: str = ""
    reasoning_content: str = ""


@dataclass(frozen=True, slots=True)
class Chat:
    """A conversation, and what its template is told beside the messages.

    As transformers' apply_chat_template takes them. chat_template_kwargs: by name, such as
    enable_thinking. add_generation_prompt: None: unless the final message is continued.
    """

    messages: Sequence[ChatMessage | JsonObject]
    tools: Sequence[JsonObject] = ()
    chat_template_kwargs: JsonObject = field(default_factory=dict)
    add_generation_prompt: bool | None = None
    continue_final_message: bool = False


Prompt: TypeAlias = str | Sequence[int] | Sequence[ChatMessage | JsonObject] | Chat
"""Text, token ids or a conversation."""


def chat_of(prompt: Prompt) -> Chat | None:
    """The conversation that a prompt is; None for text and token ids."""
    if isinstance(prompt, str | Chat):
        return None if isinstance(prompt, str) else prompt
    messages = tuple(part for part in prompt if isinstance(part, ChatMessage))
    return Chat(messages) if messages else None


def token_ids_of(prompt: Prompt) -> tuple[int, ...]:
    """The token ids that a prompt is; none for text and conversations."""
    parts = () if isinstance(prompt, str | Chat) else prompt
    return tuple(part for part in parts if isinstance(part, int))


DEFAULT_CHOICES = 1


@dataclass(frozen=True, slots=True)
class GenerateRequest:
    """An output asked for.

    Flat, as clients of other engines know it. It mirrors paceline.v1.GenerateRequest field by
    field; the limits are documented there.
    """

    prompt: Prompt
    model: str = ""
    sampling: Sampling = field(default_factory=Sampling)
    seed: int | None = None
    max_tokens: int | None = None
    n: int = DEFAULT_CHOICES
    speculation: Speculation = Speculation.AUTO
    ignore_eos: bool = False
    required_features: Sequence[str] = ()
    output_token_ids: Sequence[int] = ()
    fingerprint: str = ""
    stop: Sequence[str] = ()
    stop_token_ids: Sequence[int] = ()
    logprobs: int | None = None
    prompt_logprobs: int | None = None
    priority: int = 0
    cache_salt: str = ""
    include_stop: bool = False
    skip_special_tokens: bool = True
    bad_words: Sequence[str] = ()
    truncate_prompt_tokens: int | None = None


@dataclass(frozen=True, slots=True)
class Started:
    """What is needed to repeat or resume a stream; comes before any token.

    choice_seeds: with its own seed a choice is repeated, or resumed, as an output of its own.
    sampling: what holds; None from an older server, which does not say. signs_of_life: whether the
    server gives any.
    """

    request_id: str
    model: str
    fingerprint: str
    seed: int
    prompt_token_ids: tuple[int, ...]
    max_tokens: int
    choice_seeds: tuple[int, ...] = ()
    sampling: SamplingParams | None = None
    signs_of_life: bool = False


@value(frozen=True, slots=True)
class Token:
    """One token: its id, where it came from, the text it completed, logprobs if asked for."""

    id: int
    origin: Origin
    text: str
    logprobs: TokenLogprobs | None = None


@value(frozen=True, slots=True)
class Delta:
    """Tokens of one verdict; token_index is the first one's index in the output.

    text_offset: characters of the output's text before this delta.
    """

    token_index: int
    tokens: tuple[Token, ...]
    choice_index: int = 0
    text_offset: int = 0

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
    speculated_tokens: int = 0


@value(frozen=True, slots=True)
class Overhead:
    """Where a round's time goes beside the forward pass and the wait for the draft; seconds.

    sampling: choosing the tokens. queue: in the target server, for other sessions' steps.
    wire: gRPC and network, both ways. codec: to and from messages, in the orchestrator.
    emit: the rest of the orchestrator, from one verdict to the next request.
    """

    sampling: float = 0.0
    queue: float = 0.0
    wire: float = 0.0
    codec: float = 0.0
    emit: float = 0.0

    @property
    def total(self) -> float:
        """All of it."""
        return self.sampling + self.queue + self.wire + self.codec + self.emit


@dataclass(frozen=True, slots=True)
class Statistics:
    """How a stream went, as the orchestrator saw it; times in seconds.

    branch_verified, branch_accepted: draft tokens of branches, which are not in the other counts.
    """

    rounds: int = 0
    drafted: int = 0
    verified: int = 0
    accepted: int = 0
    accepted_by_position: tuple[int, ...] = ()
    verified_by_position: tuple[int, ...] = ()
    target_only_steps: int = 0
    ttft_seconds: float = 0.0
    decode_seconds: float = 0.0
    overhead_seconds: float = 0.0
    overhead: Overhead = field(default_factory=Overhead)
    branch_verified: int = 0
    branch_accepted: int = 0

    @property
    def acceptance_rate(self) -> float:
        """Accepted / verified, 0 when none was verified. vLLM divides by drafted."""
        return self.accepted / self.verified if self.verified else 0.0

    @property
    def mean_accepted(self) -> float:
        """Accepted / rounds, 0 without rounds. vLLM's mean acceptance length is 1 more."""
        return self.accepted / self.rounds if self.rounds else 0.0


@dataclass(frozen=True, slots=True)
class Finished:
    """The end of a choice. stop_string or stop_token_id: what ended it, if one did."""

    finish_reason: FinishReason
    usage: Usage
    statistics: Statistics
    choice_index: int = 0
    stop_string: str | None = None
    stop_token_id: int | None = None

    @property
    def tokens_per_second(self) -> float:
        """Output tokens after the first, per second from the first to the last; 0 for one token."""
        seconds = self.statistics.decode_seconds
        return (self.usage.output_tokens - 1) / seconds if seconds > 0 else 0.0


@dataclass(frozen=True, slots=True)
class Model:
    """A model that can be asked for.

    equal_up_to_rounding: its target is not batch-invariant: outputs are equal up to floating point.
    """

    name: str
    fingerprint: str
    max_positions: int
    vocabulary_size: int
    drafts: int
    equal_up_to_rounding: bool = False


SIGN_PAUSES_SECONDS = (0.25, 0.5, 1.0)
"""Pauses before signs of life in a row; the last one again and again."""


@dataclass(frozen=True, slots=True)
class SignOfLife:
    """Nothing new. draining: the server is about to stop, and the stream may go on elsewhere."""

    draining: bool = False


GenerateEvent: TypeAlias = Started | PromptLogprobs | Delta | Finished | SignOfLife
