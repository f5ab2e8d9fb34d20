"""Features: what a server may be asked for that an older one would leave out in silence.

A request names what it needs in required_features; a server that does not know one of them
answers FAILED_PRECONDITION. What is new on the wire and changes the output gets a name here.
"""

from paceline.protocol.generation import (
    DEFAULT_CHOICES,
    Chat,
    ChatMessage,
    GenerateRequest,
    chat_of,
)

LOGPROBS, PROMPT_LOGPROBS = "logprobs", "prompt_logprobs"
ALLOWED_TOKEN_IDS, BAD_WORDS = "allowed_token_ids", "bad_words"
CONSTRAINT = "constraint"
VOCABULARY_MAP = "vocabulary_map"
"""A draft that knows it reads and proposes in ids of the target's vocabulary."""
SHARED_CALLS = "shared_calls"
"""A server that knows it takes sessions that share a call; no request names it."""

BRANCHES = "branches"
"""A target that knows it verifies branches beside the draft tokens; no request names it."""

CHAT_TEMPLATE = "chat_template"
"""What a conversation has beside messages of role and content."""

OF_ORCHESTRATOR = (
    ALLOWED_TOKEN_IDS,
    BAD_WORDS,
    "cache_salt",
    CHAT_TEMPLATE,
    CONSTRAINT,
    "include_stop",
    LOGPROBS,
    "n",
    "priority",
    PROMPT_LOGPROBS,
    "skip_special_tokens",
    "stop",
    "truncate_prompt_tokens",
)
"""What GenerateRequest.required_features may name."""
OF_ENGINE = (ALLOWED_TOKEN_IDS, BAD_WORDS, CONSTRAINT, LOGPROBS, PROMPT_LOGPROBS)
"""What Open.required_features may name where our own engine runs the model."""


def needed_of_target(request: GenerateRequest) -> tuple[str, ...]:
    """What a target must know to answer `request`."""
    sampling = request.sampling
    needed = {
        ALLOWED_TOKEN_IDS: bool(sampling.allowed_token_ids),
        BAD_WORDS: bool(request.bad_words or sampling.bad_words_token_ids),
        CONSTRAINT: sampling.constraint is not None,
        LOGPROBS: request.logprobs is not None,
        PROMPT_LOGPROBS: request.prompt_logprobs is not None,
    }
    return tuple(name for name, holds in needed.items() if holds)


def needed_of_orchestrator(request: GenerateRequest) -> tuple[str, ...]:
    """What an orchestrator must know to answer `request`."""
    needed = {
        "cache_salt": bool(request.cache_salt),
        CHAT_TEMPLATE: _templated(chat_of(request.prompt)),
        "include_stop": request.include_stop,
        "n": request.n != DEFAULT_CHOICES,
        "priority": request.priority != 0,
        "skip_special_tokens": not request.skip_special_tokens,
        "stop": bool(request.stop),
        "truncate_prompt_tokens": request.truncate_prompt_tokens is not None,
    }
    found = tuple(name for name, holds in needed.items() if holds)
    return (*found, *needed_of_target(request))


def _templated(chat: Chat | None) -> bool:
    """Whether there is more than messages of role and content."""
    if chat is None:
        return False
    said = [part for part in chat.messages if isinstance(part, ChatMessage)]
    plain = tuple(ChatMessage(one.role, one.content or "") for one in said)
    return chat != Chat(plain)
