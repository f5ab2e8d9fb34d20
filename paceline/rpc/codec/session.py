"""Protobuf messages to and from the values of paceline.protocol: pure, one pair a message."""

from paceline.errors import InvalidArgument
from paceline.protocol.limits import check_opening
from paceline.protocol.model import ModelInfo
from paceline.protocol.sampling import Sampling
from paceline.protocol.session import Load, Opened, Opening, Progress
from paceline.protocol.vocabulary import Run, VocabularyMap
from paceline.rpc.codec.sampling import sampling_from_proto, sampling_to_proto
from paceline.v1 import session_pb2


def opening_to_proto(opening: Opening) -> session_pb2.Open:
    """paceline.v1.Open."""
    return session_pb2.Open(
        request_id=opening.request_id,
        prompt_token_ids=opening.prompt_token_ids,
        output_token_ids=opening.output_token_ids,
        sampling=sampling_to_proto(opening.sampling),
        seed=opening.seed,
        max_tokens=opening.max_tokens,
        stop_token_ids=sorted(opening.stop_token_ids),
        required_features=opening.required_features,
        fingerprint=opening.fingerprint,
        logprobs=opening.logprobs,
        prompt_logprobs=opening.prompt_logprobs,
        cache_salt=opening.cache_salt,
        priority=opening.priority,
        vocabulary=_vocabulary_to_proto(opening.vocabulary) if opening.vocabulary else None,
        no_wait=opening.no_wait,
    )


def _vocabulary_to_proto(vocabulary: VocabularyMap) -> session_pb2.VocabularyMap:
    return session_pb2.VocabularyMap(
        size=vocabulary.size,
        target_ids=[run.target for run in vocabulary.runs],
        draft_ids=[run.draft for run in vocabulary.runs],
        counts=[run.count for run in vocabulary.runs],
        unknown_id=vocabulary.unknown,
    )


def _vocabulary_from_proto(message: session_pb2.VocabularyMap) -> VocabularyMap:
    lists = message.target_ids, message.draft_ids, message.counts
    if len({len(one) for one in lists}) > 1:
        lengths = tuple(len(one) for one in lists)
        raise InvalidArgument.of("vocabulary's lengths", lengths, "equal")
    runs = (Run(*run) for run in zip(*lists, strict=True))
    return VocabularyMap(message.size, tuple(runs), message.unknown_id)


def opening_from_proto(message: session_pb2.Open, model: ModelInfo) -> Opening:
    """Checked against the model that is to serve it.

    Raises InvalidArgument for a bad field, FailedPrecondition for a feature or a
    fingerprint that is not the model's.
    """
    opening = Opening(
        request_id=message.request_id,
        prompt_token_ids=tuple(message.prompt_token_ids),
        output_token_ids=tuple(message.output_token_ids),
        sampling=sampling_from_proto(message.sampling).over(Sampling()),
        seed=message.seed,
        max_tokens=message.max_tokens,
        stop_token_ids=frozenset(message.stop_token_ids),
        required_features=tuple(message.required_features),
        fingerprint=message.fingerprint,
        logprobs=message.logprobs if message.HasField("logprobs") else None,
        prompt_logprobs=message.prompt_logprobs if message.HasField("prompt_logprobs") else None,
        cache_salt=message.cache_salt,
        priority=message.priority,
        vocabulary=_vocabulary_from_proto(message.vocabulary)
        if message.HasField("vocabulary")
        else None,
        no_wait=message.no_wait,
    )
    opening.sampling.validate()
    check_opening(opening, model)
    return opening


def opened_to_proto(opened: Opened) -> session_pb2.Opened:
    """paceline.v1.Opened."""
    return session_pb2.Opened(fingerprint=opened.fingerprint)


def opened_from_proto(message: session_pb2.Opened) -> Opened:
    """paceline.v1.Opened."""
    return Opened(message.fingerprint)


def load_to_proto(load: Load) -> session_pb2.Load:
    """paceline.v1.Load."""
    return session_pb2.Load(
        sessions=load.sessions,
        queued=load.queued,
        batched_tokens=load.batched_tokens,
        kv_pages_used=load.kv_pages_used,
        kv_pages_total=load.kv_pages_total,
        waiting=load.waiting,
    )


def load_from_proto(message: session_pb2.Load) -> Load:
    """paceline.v1.Load."""
    return Load(
        sessions=message.sessions,
        queued=message.queued,
        batched_tokens=message.batched_tokens,
        kv_pages_used=message.kv_pages_used,
        kv_pages_total=message.kv_pages_total,
        waiting=message.waiting,
    )


def progress_to_proto(progress: Progress) -> session_pb2.Progress:
    """paceline.v1.Progress."""
    return session_pb2.Progress(
        engine_steps=progress.engine_steps,
        prefilled_tokens=progress.prefilled_tokens,
        load=load_to_proto(progress.load),
        waiting=progress.waiting,
    )


def progress_from_proto(message: session_pb2.Progress) -> Progress:
    """paceline.v1.Progress."""
    return Progress(
        message.engine_steps,
        message.prefilled_tokens,
        load_from_proto(message.load),
        message.waiting,
    )
