"""Protobuf messages to and from the values of protocol.sampling: pure, one pair a message."""

from typing import Any

from paceline.errors import InvalidArgument
from paceline.protocol.constraint import Constraint, ConstraintKind
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
        constraint=_constraint_to_proto(params.constraint) if params.constraint else None,
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
        constraint=(
            _constraint_from_proto(message.constraint) if message.HasField("constraint") else None
        ),
    )


def _constraint_to_proto(constraint: Constraint) -> sampling_pb2.Constraint:
    if constraint.kind is ConstraintKind.CHOICE:
        return sampling_pb2.Constraint(choice=sampling_pb2.Options(options=constraint.options))
    message = sampling_pb2.Constraint()
    setattr(message, constraint.kind.value, constraint.text)
    return message


def _constraint_from_proto(message: sampling_pb2.Constraint) -> Constraint:
    """InvalidArgument where none is named, or one that is not known here."""
    kind = message.WhichOneof("kind")
    if kind is None:
        known = ", ".join(one.value for one in ConstraintKind)
        raise InvalidArgument.of("sampling.constraint", "empty", f"one of {known}")
    if kind == "choice":
        return Constraint(ConstraintKind.CHOICE, options=tuple(message.choice.options))
    return Constraint(ConstraintKind(kind), getattr(message, kind))
