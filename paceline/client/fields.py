"""Fields of a request beside its prompt, as keywords of generate: max_tokens=4, temperature=0."""

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import fields, replace
from typing import Any, TypedDict

from paceline.errors import InvalidArgument, shown
from paceline.protocol.constraint import Constraint
from paceline.protocol.generation import GenerateRequest, Prompt, Speculation
from paceline.protocol.sampling import Sampling

OF_REQUEST = tuple(field.name for field in fields(GenerateRequest))
OF_SAMPLING = tuple(field.name for field in fields(Sampling))
_IN_CHAT = "a Chat takes it: generate(Chat(messages, {name}=...))"
_SEND = "there is nothing to set: every generation is a stream, and result() waits for the whole"
ELSEWHERE = {
    "messages": "prompt",
    "input": "prompt",
    "request": "prompt",
    "prompts": "prompt",
    "prompt_token_ids": "prompt",
    "max_completion_tokens": "max_tokens",
    "max_new_tokens": "max_tokens",
    "max_output_tokens": "max_tokens",
    "n_predict": "max_tokens",
    "num_return_sequences": "n",
    "stop_sequences": "stop",
    "top_logprobs": "logprobs",
    "include_stop_str_in_output": "include_stop",
    "response_format": "constraint",
    "structured_outputs": "constraint",
    "guided_json": "constraint",
    "random_seed": "seed",
}
"""What other libraries call a field."""
INSTEAD = {
    "tools": _IN_CHAT.format(name="tools"),
    "chat_template_kwargs": _IN_CHAT.format(name="chat_template_kwargs"),
    "add_generation_prompt": _IN_CHAT.format(name="add_generation_prompt"),
    "continue_final_message": _IN_CHAT.format(name="continue_final_message"),
    "stream": _SEND,
}
"""What is said otherwise."""


class RequestFields(TypedDict, total=False):
    """Those of GenerateRequest but its prompt, and of Sampling, each with its type there."""

    model: str
    sampling: Sampling
    seed: int | None
    max_tokens: int | None
    n: int
    speculation: Speculation
    ignore_eos: bool
    required_features: Sequence[str]
    output_token_ids: Sequence[int]
    fingerprint: str
    stop: Sequence[str]
    stop_token_ids: Sequence[int]
    logprobs: int | None
    prompt_logprobs: int | None
    priority: int
    cache_salt: str
    include_stop: bool
    skip_special_tokens: bool
    bad_words: Sequence[str]
    truncate_prompt_tokens: int | None
    temperature: float | None
    top_k: int | None
    top_p: float | None
    min_p: float | None
    repetition_penalty: float | None
    presence_penalty: float
    frequency_penalty: float
    logit_bias: Mapping[int, float]
    min_tokens: int
    allowed_token_ids: tuple[int, ...]
    bad_words_token_ids: tuple[tuple[int, ...], ...]
    constraint: Constraint | None


def request_with(given: GenerateRequest | Prompt | None, named: Mapping[str, Any]) -> Any:
    """`given`, or a request for that prompt, with the fields that are named in place of its own.

    Their types are not looked at yet. InvalidArgument for a name that is no field's.
    """
    for name in named:
        if name not in OF_REQUEST + OF_SAMPLING:
            raise InvalidArgument(f"generate has no field {shown(name)}; {_advice(name)}")
    request = given if isinstance(given, GenerateRequest) else GenerateRequest(given)  # type: ignore[arg-type]
    request = replace(request, **{name: named[name] for name in named if name in OF_REQUEST})
    sampling = {name: named[name] for name in named if name in OF_SAMPLING}
    if not sampling or not isinstance(request.sampling, Sampling):  # which is refused by its type
        return request
    return replace(request, sampling=replace(request.sampling, **sampling))


def _advice(name: str) -> str:
    if name in INSTEAD:
        return INSTEAD[name]
    near = difflib.get_close_matches(name.lower(), OF_REQUEST + OF_SAMPLING, 1)
    if wanted := ELSEWHERE.get(name) or (near and near[0]):
        return f"write {wanted}="
    return "it has those of GenerateRequest and of Sampling"
