"""GenerationService's messages to and from the values of paceline.protocol.generation: pure."""

import dataclasses
from collections.abc import Sequence
from typing import TypeVar

from paceline.errors import InvalidArgument
from paceline.protocol.generation import (
    DEFAULT_CHOICES,
    Delta,
    Finished,
    FinishReason,
    GenerateEvent,
    GenerateRequest,
    Model,
    Overhead,
    Prompt,
    SignOfLife,
    Speculation,
    Started,
    Statistics,
    Token,
    Usage,
    chat_of,
    token_ids_of,
)
from paceline.protocol.sampling import Sampling
from paceline.protocol.verdict import Origin, PromptLogprobs
from paceline.rpc.codec.chat import chat_from_proto, chat_to_proto
from paceline.rpc.codec.sampling import sampling_from_proto, sampling_to_proto
from paceline.rpc.codec.verdict import (
    logprobs_from_proto,
    logprobs_to_proto,
    prompt_logprobs_from_proto,
    prompt_logprobs_to_proto,
)
from paceline.rpc.wire_ranges import unsendable, unsendable_ids, unsendable_prompt
from paceline.v1 import generation_pb2 as pb

Value = TypeVar("Value")
Number = TypeVar("Number")

_SPECULATION = {
    Speculation.OFF: pb.SPECULATION_OFF,
    Speculation.AUTO: pb.SPECULATION_AUTO,
    Speculation.FORCE: pb.SPECULATION_FORCE,
}
_ORIGIN = {
    Origin.ACCEPTED: pb.ORIGIN_ACCEPTED,
    Origin.RECOVERED: pb.ORIGIN_RECOVERED,
    Origin.BONUS: pb.ORIGIN_BONUS,
    Origin.TARGET_ONLY: pb.ORIGIN_TARGET_ONLY,
}
_FINISH = {
    FinishReason.STOP: pb.FINISH_REASON_STOP,
    FinishReason.LENGTH: pb.FINISH_REASON_LENGTH,
}

_CANNOT_CARRY = (ValueError, TypeError, OverflowError)
"""What protobuf raises; it may quote the value."""


def _reverse(table: dict[Value, Number]) -> dict[Number, Value]:
    return {number: value for value, number in table.items()}


_SPECULATION_OF = {**_reverse(_SPECULATION), pb.SPECULATION_UNSPECIFIED: Speculation.AUTO}
_ORIGIN_OF = _reverse(_ORIGIN)
_FINISH_OF = _reverse(_FINISH)


def prompt_to_proto(prompt: Prompt) -> pb.Prompt:
    """Text, token ids or a conversation; an empty tuple is taken as no token ids.

    Raises InvalidArgument for what no message can carry.
    """
    try:
        return _prompt_to_proto(prompt)
    except _CANNOT_CARRY:
        raise unsendable_prompt(prompt) from None


def _prompt_to_proto(prompt: Prompt) -> pb.Prompt:
    if isinstance(prompt, str):
        return pb.Prompt(text=prompt)
    if (chat := chat_of(prompt)) is not None:
        return pb.Prompt(chat=chat_to_proto(chat))
    return pb.Prompt(token_ids=pb.TokenIds(ids=token_ids_of(prompt)))


def prompt_from_proto(message: pb.Prompt) -> Prompt:
    """Not checked, but for what is no JSON: InvalidArgument. Empty text when it is left out."""
    if message.WhichOneof("input") == "token_ids":
        return tuple(message.token_ids.ids)
    if message.WhichOneof("input") == "chat":
        return chat_from_proto(message.chat)
    return message.text


def request_to_proto(request: GenerateRequest) -> pb.GenerateRequest:
    """paceline.v1.GenerateRequest; InvalidArgument for a field of a value it cannot carry."""
    try:
        return _request_to_proto(request)
    except _CANNOT_CARRY:
        raise unsendable(request) from None


def _request_to_proto(request: GenerateRequest) -> pb.GenerateRequest:
    return pb.GenerateRequest(
        model=request.model,
        prompt=_prompt_to_proto(request.prompt),
        sampling=sampling_to_proto(request.sampling),
        seed=request.seed,
        max_tokens=request.max_tokens,
        n=request.n,
        speculation=_SPECULATION[request.speculation],
        ignore_eos=request.ignore_eos,
        required_features=request.required_features,
        output_token_ids=request.output_token_ids,
        fingerprint=request.fingerprint,
        stop=request.stop,
        stop_token_ids=request.stop_token_ids,
        logprobs=request.logprobs,
        prompt_logprobs=request.prompt_logprobs,
        priority=request.priority,
        cache_salt=request.cache_salt,
        include_stop=request.include_stop,
        skip_special_tokens=request.skip_special_tokens,
        bad_words=request.bad_words,
        truncate_prompt_tokens=request.truncate_prompt_tokens,
    )


def request_from_proto(message: pb.GenerateRequest) -> GenerateRequest:
    """Not checked, but for a speculation that has no name: InvalidArgument."""
    if message.speculation not in _SPECULATION_OF:
        limit = f"one of {', '.join(pb.Speculation.keys())}"
        raise InvalidArgument.of("speculation", message.speculation, limit)
    return GenerateRequest(
        prompt=prompt_from_proto(message.prompt),
        model=message.model,
        sampling=sampling_from_proto(message.sampling),
        seed=message.seed if message.HasField("seed") else None,
        max_tokens=message.max_tokens if message.HasField("max_tokens") else None,
        n=message.n if message.HasField("n") else DEFAULT_CHOICES,
        speculation=_SPECULATION_OF[message.speculation],
        ignore_eos=message.ignore_eos,
        required_features=tuple(message.required_features),
        output_token_ids=tuple(message.output_token_ids),
        fingerprint=message.fingerprint,
        stop=tuple(message.stop),
        stop_token_ids=tuple(message.stop_token_ids),
        logprobs=message.logprobs if message.HasField("logprobs") else None,
        prompt_logprobs=message.prompt_logprobs if message.HasField("prompt_logprobs") else None,
        priority=message.priority,
        cache_salt=message.cache_salt,
        include_stop=message.include_stop,
        skip_special_tokens=skips_special_tokens(message),
        bad_words=tuple(message.bad_words),
        truncate_prompt_tokens=message.truncate_prompt_tokens
        if message.HasField("truncate_prompt_tokens")
        else None,
    )


def tokenize_to_proto(prompt: Prompt, model: str) -> pb.TokenizeRequest:
    """paceline.v1.TokenizeRequest; InvalidArgument for what it cannot carry."""
    message = pb.TokenizeRequest(prompt=prompt_to_proto(prompt))
    try:
        message.model = model
    except _CANNOT_CARRY:
        raise unsendable_ids((), model) from None
    return message


def detokenize_to_proto(
    token_ids: Sequence[int], model: str, *, skip_special_tokens: bool
) -> pb.DetokenizeRequest:
    """paceline.v1.DetokenizeRequest; InvalidArgument for ids that it cannot carry."""
    try:
        return pb.DetokenizeRequest(
            model=model, token_ids=token_ids, skip_special_tokens=skip_special_tokens
        )
    except _CANNOT_CARRY:
        raise unsendable_ids(token_ids, model) from None


def skips_special_tokens(message: pb.GenerateRequest | pb.DetokenizeRequest) -> bool:
    """True unless it says otherwise."""
    return message.skip_special_tokens if message.HasField("skip_special_tokens") else True


def event_to_proto(event: GenerateEvent) -> pb.GenerateResponse:
    """paceline.v1.GenerateResponse."""
    if isinstance(event, Started):
        return pb.GenerateResponse(started=_started_to_proto(event))
    if isinstance(event, Delta):
        response = pb.GenerateResponse()
        _fill_delta(response.delta, event)
        return response
    if isinstance(event, PromptLogprobs):
        return pb.GenerateResponse(prompt_logprobs=prompt_logprobs_to_proto(event))
    if isinstance(event, SignOfLife):
        return pb.GenerateResponse(sign_of_life=pb.SignOfLife(draining=event.draining))
    return pb.GenerateResponse(finished=_finished_to_proto(event))


def event_from_proto(message: pb.GenerateResponse) -> GenerateEvent:
    """paceline.v1.GenerateResponse."""
    kind = message.WhichOneof("event")
    if kind == "started":
        return _started_from_proto(message.started)
    if kind == "delta":
        return _delta_from_proto(message.delta)
    if kind == "prompt_logprobs":
        return prompt_logprobs_from_proto(message.prompt_logprobs)
    if kind == "sign_of_life":
        return SignOfLife(message.sign_of_life.draining)
    return _finished_from_proto(message.finished)


def _started_to_proto(started: Started) -> pb.Started:
    return pb.Started(
        request_id=started.request_id,
        model=started.model,
        fingerprint=started.fingerprint,
        seed=started.seed,
        prompt_token_ids=started.prompt_token_ids,
        max_tokens=started.max_tokens,
        choice_seeds=started.choice_seeds,
        sampling=sampling_to_proto(started.sampling) if started.sampling else None,
        signs_of_life=started.signs_of_life,
    )


def _started_from_proto(message: pb.Started) -> Started:
    said = message.HasField("sampling")
    return Started(
        request_id=message.request_id,
        model=message.model,
        fingerprint=message.fingerprint,
        seed=message.seed,
        prompt_token_ids=tuple(message.prompt_token_ids),
        max_tokens=message.max_tokens,
        choice_seeds=tuple(message.choice_seeds),
        sampling=sampling_from_proto(message.sampling).over(Sampling()) if said else None,
        signs_of_life=message.signs_of_life,
    )


def _fill_delta(message: pb.Delta, delta: Delta) -> None:
    """In its place in the response: see fill_proposal."""
    message.SetInParent()
    message.token_index = delta.token_index
    message.choice_index = delta.choice_index
    message.text_offset = delta.text_offset
    for token in delta.tokens:
        one = message.tokens.add()
        one.id = token.id
        one.origin = _ORIGIN[token.origin]
        one.text = token.text
        if token.logprobs:
            one.logprobs.CopyFrom(logprobs_to_proto(token.logprobs))


def _delta_from_proto(message: pb.Delta) -> Delta:
    tokens = (
        Token(
            token.id,
            _ORIGIN_OF[token.origin],
            token.text,
            logprobs_from_proto(token.logprobs) if token.HasField("logprobs") else None,
        )
        for token in message.tokens
    )
    return Delta(message.token_index, tuple(tokens), message.choice_index, message.text_offset)


def _finished_to_proto(finished: Finished) -> pb.Finished:
    usage = finished.usage
    return pb.Finished(
        finish_reason=_FINISH[finished.finish_reason],
        usage=pb.Usage(
            prompt_tokens=usage.prompt_tokens,
            output_tokens=usage.output_tokens,
            cached_tokens=usage.cached_tokens,
            speculated_tokens=usage.speculated_tokens,
        ),
        choice_index=finished.choice_index,
        stop_string=finished.stop_string,
        stop_token_id=finished.stop_token_id,
        statistics=_statistics_to_proto(finished.statistics),
    )


def _statistics_to_proto(statistics: Statistics) -> pb.Statistics:
    return pb.Statistics(
        rounds=statistics.rounds,
        drafted=statistics.drafted,
        verified=statistics.verified,
        accepted=statistics.accepted,
        accepted_by_position=statistics.accepted_by_position,
        verified_by_position=statistics.verified_by_position,
        target_only_steps=statistics.target_only_steps,
        ttft_seconds=statistics.ttft_seconds,
        decode_seconds=statistics.decode_seconds,
        overhead_seconds=statistics.overhead_seconds,
        overhead=pb.Overhead(
            **{
                f"{part}_seconds": value
                for part, value in dataclasses.asdict(statistics.overhead).items()
            }
        ),
        branch_verified=statistics.branch_verified,
        branch_accepted=statistics.branch_accepted,
    )


def _finished_from_proto(message: pb.Finished) -> Finished:
    usage = message.usage
    return Finished(
        finish_reason=_FINISH_OF[message.finish_reason],
        usage=Usage(
            usage.prompt_tokens,
            usage.output_tokens,
            usage.cached_tokens,
            usage.speculated_tokens,
        ),
        choice_index=message.choice_index,
        stop_string=message.stop_string if message.HasField("stop_string") else None,
        stop_token_id=message.stop_token_id if message.HasField("stop_token_id") else None,
        statistics=_statistics_from_proto(message.statistics),
    )


def _statistics_from_proto(message: pb.Statistics) -> Statistics:
    return Statistics(
        rounds=message.rounds,
        drafted=message.drafted,
        verified=message.verified,
        accepted=message.accepted,
        accepted_by_position=tuple(message.accepted_by_position),
        verified_by_position=tuple(message.verified_by_position),
        target_only_steps=message.target_only_steps,
        ttft_seconds=message.ttft_seconds,
        decode_seconds=message.decode_seconds,
        overhead_seconds=message.overhead_seconds,
        overhead=Overhead(
            **{
                field.name: getattr(message.overhead, f"{field.name}_seconds")
                for field in dataclasses.fields(Overhead)
            }
        ),
        branch_verified=message.branch_verified,
        branch_accepted=message.branch_accepted,
    )


def model_to_proto(model: Model) -> pb.Model:
    """paceline.v1.Model."""
    return pb.Model(
        name=model.name,
        fingerprint=model.fingerprint,
        max_positions=model.max_positions,
        vocabulary_size=model.vocabulary_size,
        drafts=model.drafts,
        equal_up_to_rounding=model.equal_up_to_rounding,
    )


def model_from_proto(message: pb.Model) -> Model:
    """paceline.v1.Model."""
    return Model(
        name=message.name,
        fingerprint=message.fingerprint,
        max_positions=message.max_positions,
        vocabulary_size=message.vocabulary_size,
        drafts=message.drafts,
        equal_up_to_rounding=message.equal_up_to_rounding,
    )
