"""Protobuf messages to and from the values of protocol.sampling: pure, one pair a message."""

from paceline.protocol.sampling import SamplingParams
from paceline.v1 import sampling_pb2


def sampling_to_proto(params: SamplingParams) -> sampling_pb2.SamplingParams:
    """Every field is set, neutral or not."""
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
    )


_NEUTRAL = SamplingParams()


def sampling_from_proto(message: sampling_pb2.SamplingParams) -> SamplingParams:
    """paceline.v1.SamplingParams; not checked."""

    def given(field: str) -> float:
        known = message.HasField(field)  # type: ignore[arg-type]
        return float(getattr(message if known else _NEUTRAL, field))

    return SamplingParams(
        temperature=given("temperature"),
        top_k=message.top_k,
        top_p=given("top_p"),
        min_p=message.min_p,
        repetition_penalty=given("repetition_penalty"),
        presence_penalty=message.presence_penalty,
        frequency_penalty=message.frequency_penalty,
        logit_bias=dict(message.logit_bias),
        min_tokens=message.min_tokens,
    )
