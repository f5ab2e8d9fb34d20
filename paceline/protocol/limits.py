"""What a model can be asked for: every limit but those of the sampling parameters."""

from collections.abc import Iterable, Sequence

from paceline.errors import FailedPrecondition, InvalidArgument, listed, shown
from paceline.protocol.features import VOCABULARY_MAP
from paceline.protocol.generation import Chat, GenerateRequest, Prompt
from paceline.protocol.model import ModelInfo
from paceline.protocol.session import Opening
from paceline.protocol.vocabulary import VocabularyMap

MAX_CHOICES = 16
MAX_STOP_STRINGS = 16
MAX_STOP_CHARACTERS = 256
MAX_BAD_WORDS = 256
MAX_BAD_WORD_CHARACTERS = 256
FIT = -1
"""truncate_prompt_tokens: as many as leave room for the output."""
MAX_LOGPROBS = 20
MAX_PRIORITY = 100
MAX_SALT_CHARACTERS = 128
RESERVED_KWARGS = (
    "messages", "tools", "add_generation_prompt", "continue_final_message", "chat_template",
)  # fmt: skip
"""What conversations do not tell a template by chat_template_kwargs."""
MAX_MOMENTS = 4
MAX_VOCABULARY = 2**24
MAX_BRANCHES = 64
"""Of a Verify, and tokens of them that a step verifies."""


def check_request(request: GenerateRequest) -> None:
    """Raise InvalidArgument naming the first field of `request` out of its limits.

    What depends on the model is checked with the opening made of it.
    """
    check_prompt(request.prompt)
    request.sampling.validate()
    _check("n", request.n, f"from 1 to {MAX_CHOICES}", 1 <= request.n <= MAX_CHOICES)
    _check_max_tokens(request)
    for field in ("logprobs", "prompt_logprobs"):
        check_logprobs(field, getattr(request, field))
    _check_texts("stop", request.stop, MAX_STOP_STRINGS, MAX_STOP_CHARACTERS)
    _check_bad_words(request.bad_words)
    _check_truncation(request.truncate_prompt_tokens)
    check_priority(request.priority)
    salt = len(request.cache_salt)
    limit = f"at most {MAX_SALT_CHARACTERS} characters"
    _check("cache_salt's length", salt, limit, salt <= MAX_SALT_CHARACTERS)
    if request.output_token_ids:
        _check_resume(request)


def check_prompt(prompt: Prompt) -> None:
    """InvalidArgument for an empty prompt."""
    some = prompt.messages if isinstance(prompt, Chat) else prompt
    _check("prompt", some, "text, token ids or messages, and not empty", bool(some))
    if isinstance(prompt, Chat):
        _check_chat(prompt)


def _check_chat(chat: Chat) -> None:
    """InvalidArgument for what a template cannot be told."""
    limit = f"without {', '.join(RESERVED_KWARGS)}: they have fields of their own, or none"
    for name in RESERVED_KWARGS:
        free = name not in chat.chat_template_kwargs
        _check("a name in prompt.chat.chat_template_kwargs", name, limit, free)
    beginning = chat.add_generation_prompt and chat.continue_final_message
    limit = "false where continue_final_message is true: an answer begins or goes on"
    _check("prompt.chat.add_generation_prompt", True, limit, not beginning)


def _check_max_tokens(request: GenerateRequest) -> None:
    """At least 1; 0 scores the prompt, which is done once."""
    if request.max_tokens == 0:
        limit = "at least 1 where no prompt_logprobs are asked for"
        _check("max_tokens", 0, limit, request.prompt_logprobs is not None)
        _check("n", request.n, "1 where max_tokens is 0", request.n == 1)
    elif request.max_tokens is not None:
        _check("max_tokens", request.max_tokens, "at least 1", request.max_tokens >= 1)


def _check_texts(field: str, texts: Sequence[str], most: int, longest: int) -> None:
    """Like a prompt they are not quoted."""
    _check(f"{field}'s length", len(texts), f"at most {most} strings", len(texts) <= most)
    limit = f"from 1 to {longest} characters"
    for text in texts:
        _check(f"a string of {field}", "", limit, bool(text))
        length = len(text)
        _check(f"the length of a string of {field}", length, limit, length <= longest)


def _check_bad_words(words: Sequence[str]) -> None:
    _check_texts("bad_words", words, MAX_BAD_WORDS, MAX_BAD_WORD_CHARACTERS)
    if not all(map(str.strip, words)):
        raise InvalidArgument("a string of bad_words is blank; it must be a word")


def _check_truncation(tokens: int | None) -> None:
    holds = tokens is None or tokens == FIT or tokens >= 1
    _check("truncate_prompt_tokens", tokens, "at least 1, or -1 for what there is room for", holds)


def _check_resume(request: GenerateRequest) -> None:
    """A resumed stream must name what it resumes: ids, not text, and the seed."""
    prompt = request.prompt
    text = isinstance(prompt, str | Chat) or not isinstance(prompt[0], int)
    _check("prompt", "text", "the token ids of started, to resume", not text)
    _check("seed", request.seed, "the seed of started, to resume", request.seed is not None)
    _check("n", request.n, "1, to resume: each choice is resumed by itself", request.n == 1)
    _check("max_tokens", request.max_tokens, "at least 1, to resume", request.max_tokens != 0)


def check_logprobs(field: str, count: int | None) -> None:
    """InvalidArgument for more best tokens than are sent."""
    holds = count is None or 0 <= count <= MAX_LOGPROBS
    _check(field, count, f"from 0 to {MAX_LOGPROBS}", holds)


def check_priority(priority: int) -> None:
    """InvalidArgument for a priority out of its limits."""
    limit = f"from {-MAX_PRIORITY} to {MAX_PRIORITY}"
    _check("priority", priority, limit, abs(priority) <= MAX_PRIORITY)


def _check(field: str, value: object, limit: str, holds: bool) -> None:
    if not holds:
        raise InvalidArgument.of(field, value, limit)


def check_opening(opening: Opening, model: ModelInfo) -> None:
    """Raise InvalidArgument or FailedPrecondition when `model` cannot serve `opening`."""
    check_features(opening.required_features, model.features)
    check_fingerprint(opening.fingerprint, model)
    check_length(opening, model)
    size = model.vocabulary_size
    if opening.vocabulary is not None:
        check_features((VOCABULARY_MAP,), model.features)
        check_vocabulary(opening.vocabulary, size)
        size = opening.vocabulary.size
    for field in ("prompt_token_ids", "output_token_ids", "stop_token_ids"):
        check_token_ids(field, getattr(opening, field), size)
    check_sampling(opening, size)
    for field in ("logprobs", "prompt_logprobs"):
        check_logprobs(field, getattr(opening, field))
    check_priority(opening.priority)


def check_features(required: Sequence[str], known: Sequence[str]) -> None:
    """FailedPrecondition for the first feature that is not known here."""
    for feature in required:
        if feature not in known:
            raise FailedPrecondition(
                f"required_features has {shown(feature)}; known are {listed(known)}"
            )


def check_fingerprint(wanted: str, model: ModelInfo) -> None:
    """FailedPrecondition when another fingerprint is wanted than the model's."""
    if wanted and wanted != model.fingerprint:
        raise FailedPrecondition(
            f"fingerprint {shown(wanted)} is wanted; "
            f"{listed([model.name])} here is {shown(model.fingerprint)}"
        )


def check_length(opening: Opening, model: ModelInfo) -> None:
    """InvalidArgument for an empty or too long prompt, or a max_tokens without room."""
    if not opening.prompt_token_ids:
        raise InvalidArgument.of("prompt", (), "at least one token")
    prompt = len(opening.prompt_token_ids)
    if prompt >= model.max_positions:
        limit = f"under {model.max_positions} tokens, the model's positions"
        raise InvalidArgument.of("prompt's length", prompt, limit)
    room = model.max_positions - prompt
    if not 1 <= opening.max_tokens <= room:
        limit = f"from 1 to {room}, what the prompt of {prompt} tokens leaves"
        raise InvalidArgument.of("max_tokens", opening.max_tokens, limit)
    if len(opening.output_token_ids) > opening.max_tokens:
        limit = f"at most max_tokens, {opening.max_tokens}"
        raise InvalidArgument.of("output_token_ids' length", len(opening.output_token_ids), limit)


def check_branches(field: str, count: int) -> None:
    """Raise InvalidArgument for more branches than a Verify may have."""
    _check(field, count, f"at most {MAX_BRANCHES} branches", count <= MAX_BRANCHES)


def check_token_ids(field: str, ids: Iterable[int], vocabulary_size: int) -> None:
    """InvalidArgument for the first id outside the vocabulary."""
    for token in ids:
        if token >= vocabulary_size:
            limit = f"under {vocabulary_size}, the size of the vocabulary"
            raise InvalidArgument.of(f"a token id in {field}", token, limit)


def check_vocabulary(vocabulary: VocabularyMap, draft_size: int) -> None:
    """InvalidArgument for a map that leads out of either vocabulary, or has an id twice."""
    limit = f"at most {MAX_VOCABULARY}"
    _check("vocabulary.size", vocabulary.size, limit, vocabulary.size <= MAX_VOCABULARY)
    known = f"under {draft_size}, the size of the vocabulary"
    _check("vocabulary.unknown_id", vocabulary.unknown, known, vocabulary.unknown < draft_size)
    end = 0
    for run in vocabulary.runs:
        ascends = end <= run.target
        end = run.target + run.count
        inside = run.count > 0 and end <= vocabulary.size and run.draft + run.count <= draft_size
        _check("a run of vocabulary", run, "ascending, and in both", ascends and inside)


def check_sampling(opening: Opening, vocabulary_size: int) -> None:
    """InvalidArgument for ids outside the vocabulary, or where no token is left to take."""
    sampling = opening.sampling
    check_token_ids("sampling.logit_bias", sampling.logit_bias, vocabulary_size)
    check_token_ids("sampling.allowed_token_ids", sampling.allowed_token_ids, vocabulary_size)
    for word in sampling.bad_words_token_ids:
        check_token_ids("sampling.bad_words_token_ids", word, vocabulary_size)
    allowed, limit = len(sampling.allowed_token_ids), f"at most {vocabulary_size}, the vocabulary's"
    _check("sampling.allowed_token_ids' length", allowed, limit, allowed <= vocabulary_size)
    check_min_tokens(opening, vocabulary_size)


def check_min_tokens(opening: Opening, vocabulary_size: int) -> None:
    """InvalidArgument where min_tokens leaves no token to begin with."""
    sampling, stop = opening.sampling, opening.stop_token_ids
    allowed = sampling.allowed_token_ids
    some = not stop.issuperset(allowed or range(vocabulary_size))
    every = "one of sampling.allowed_token_ids" if allowed else "token of the vocabulary"
    limit = f"0 where every {every} ends the output"
    minimum = sampling.min_tokens
    _check("sampling.min_tokens", minimum, limit, some or minimum <= len(opening.output_token_ids))


def check_due_seconds(moments: Sequence[float]) -> None:
    """InvalidArgument for moments that an Advance may not name."""
    limit = f"at most {MAX_MOMENTS} moments"
    _check("advance.due_seconds' length", len(moments), limit, len(moments) <= MAX_MOMENTS)
    for moment in moments:
        _check("advance.due_seconds", moment, "from 0 to 1", 0.0 <= moment <= 1.0)
