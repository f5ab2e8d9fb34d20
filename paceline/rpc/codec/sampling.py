"""Protobuf messages to and from the values of protocol.sampling: pure, one pair a message."""

from typing import Any

from paceline.protocol.sampling import Sampling
from paceline.v1 import sampling_pb2


def sampling_to_proto(params: Sampling) -> sampling_pb2.SamplingParams:
    """What is said is set, neutral or not."""
    return sampling_pb2.SamplingParams(
        temperature=params.temperature,
        top_k=params.top_k,
        top_p=params.top_p,
        min_p=params.min_p,
        repetition_penalty=params.repetition_penalty,
        presence_penalty=params.presence_penalty,
        frequency_penalty=params.frequency_penalty,
        logit_bias=params.logit_bias,
        min_tokens=params.min_tokens,
        allowed_token_ids=params.allowed_token_ids,
        bad_words_token_ids=[
            sampling_pb2.TokenSequence(ids=word) for word in params.bad_words_token_ids
        ],
    )


def sampling_from_proto(message: sampling_pb2.SamplingParams) -> Sampling:
    """paceline.v1.SamplingParams; not checked."""

    def said(field: str) -> Any:
        return getattr(message, field) if message.HasField(field) else None  # type: ignore[arg-type]

    return Sampling(
        temperature=said("temperature"),
        top_k=said("top_k"),
        top_p=said("top_p"),
        min_p=said("min_p"),
        repetition_penalty=said("repetition_penalty"),
        presence_penalty=message.presence_penalty,
        frequency_penalty=message.frequency_penalty,
        logit_bias=dict(message.logit_bias),
        min_tokens=message.min_tokens,
        allowed_token_ids=tuple(message.allowed_token_ids),
        bad_words_token_ids=tuple(tuple(word.ids) for word in message.bad_words_token_ids),
    )
