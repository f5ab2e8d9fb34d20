"""What a request must be for its message to carry it: asked only when it could not be made."""

from collections.abc import Iterable, Iterator
from itertools import chain

from paceline.errors import InvalidArgument
from paceline.protocol.constraint import Constraint
from paceline.protocol.generation import Chat, ChatMessage, GenerateRequest, Prompt, chat_of

UINT32, UINT64, INT32 = range(2**32), range(2**64), range(-(2**31), 2**31)
"""What fields of these types carry."""


def unsendable(request: GenerateRequest) -> InvalidArgument:
    """The first field of `request` that does not fit its message, the value and the limit."""
    other = InvalidArgument("a field of the request has a value of another type")
    return next(iter(_request_errors(request)), other)


def check_sendable(request: GenerateRequest) -> None:
    """Raise what `unsendable` says where something does not fit: for fronts without messages."""
    for error in _request_errors(request):
        raise error


def _request_errors(request: GenerateRequest) -> list[InvalidArgument]:
    sampling = request.sampling
    return [
        *_prompt_errors(request.prompt),
        *_text_errors("model", [request.model]),
        *_text_errors("fingerprint", [request.fingerprint]),
        *_text_errors("cache_salt", [request.cache_salt]),
        *_text_errors("a string of stop", request.stop),
        *_text_errors("a string of bad_words", request.bad_words),
        *_text_errors("required_features", request.required_features),
        *_number_errors("sampling.top_k", [sampling.top_k], UINT32),
        *_number_errors("sampling.min_tokens", [sampling.min_tokens], UINT32),
        *_number_errors("a token id in sampling.logit_bias", sampling.logit_bias, UINT32),
        *_number_errors(
            "a token id in sampling.allowed_token_ids", sampling.allowed_token_ids, UINT32
        ),
        *_number_errors(
            "a token id in sampling.bad_words_token_ids",
            chain.from_iterable(sampling.bad_words_token_ids),
            UINT32,
        ),
        *_constraint_errors(sampling.constraint),
        *_number_errors("seed", [request.seed], UINT64),
        *_number_errors("max_tokens", [request.max_tokens], INT32),
        *_number_errors("n", [request.n], UINT32),
        *_number_errors("logprobs", [request.logprobs], UINT32),
        *_number_errors("prompt_logprobs", [request.prompt_logprobs], UINT32),
        *_number_errors("priority", [request.priority], INT32),
        *_number_errors("truncate_prompt_tokens", [request.truncate_prompt_tokens], INT32),
        *_number_errors("a token id in output_token_ids", request.output_token_ids, UINT32),
        *_number_errors("a token id in stop_token_ids", request.stop_token_ids, UINT32),
    ]


def unsendable_prompt(prompt: Prompt) -> InvalidArgument:
    """As unsendable."""
    other = InvalidArgument("prompt is of another type; it must be text, token ids or messages")
    return next(_prompt_errors(prompt), other)


def unsendable_ids(token_ids: Iterable[int], model: str) -> InvalidArgument:
    """As unsendable."""
    ids = token_ids if isinstance(token_ids, Iterable) else ()
    wrong = [
        *_text_errors("model", [model]),
        *_number_errors("a token id in token_ids", ids, UINT32),
    ]
    return next(iter(wrong), InvalidArgument("token_ids is of another type; it must be token ids"))


def _constraint_errors(constraint: Constraint | None) -> Iterator[InvalidArgument]:
    if constraint is not None:
        texts = (constraint.text, *constraint.options)
        yield from _text_errors(f"sampling.constraint.{constraint.kind.value}", texts)


def _prompt_errors(prompt: Prompt) -> Iterator[InvalidArgument]:
    if isinstance(prompt, str):
        yield from _text_errors("prompt", [prompt])
        return
    if (chat := chat_of(prompt)) is not None:
        yield from _chat_errors(chat)
    elif not isinstance(prompt, Chat):
        yield from _number_errors("a token id in prompt", prompt, UINT32)  # type: ignore[arg-type]


def _chat_errors(chat: Chat) -> Iterator[InvalidArgument]:
    for one in chat.messages:
        if isinstance(one, ChatMessage):
            texts = (one.role, one.content or "", one.name, one.tool_call_id, one.reasoning_content)
            yield from _text_errors("prompt.chat", texts)


def _text_errors(field: str, texts: Iterable[str]) -> Iterator[InvalidArgument]:
    for text in texts:
        try:
            text.encode()
        except UnicodeEncodeError as error:  # which has all of the text
            limit = "characters that UTF-8 has: no half of a surrogate pair"
            yield InvalidArgument(
                f"{field} is wrong at character {error.start}; it must be {limit}"
            )


def _number_errors(
    field: str, numbers: Iterable[int | None], limits: range
) -> Iterator[InvalidArgument]:
    for number in numbers:
        if number is not None and not (_is_whole(number) and int(number) in limits):
            limit = f"a whole number from {limits.start} to {limits.stop - 1}"
            yield InvalidArgument.of(field, number, limit)


def _is_whole(number: object) -> bool:
    return hasattr(number, "__index__")
