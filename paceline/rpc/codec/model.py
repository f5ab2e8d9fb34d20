"""Protobuf messages to and from the values of paceline.protocol.model: pure, one pair a message."""

import dataclasses

from paceline.protocol.model import Cores, KVSize, Machine, ModelInfo, ModelMemory
from paceline.rpc.codec.sampling import sampling_from_proto, sampling_to_proto
from paceline.v1 import model_pb2


def model_info_to_proto(model: ModelInfo) -> model_pb2.ModelInfo:
    """paceline.v1.ModelInfo."""
    fields = dataclasses.asdict(model)
    return model_pb2.ModelInfo(
        **fields | {"default_sampling": sampling_to_proto(model.default_sampling)}
    )


def model_info_from_proto(message: model_pb2.ModelInfo) -> ModelInfo:
    """paceline.v1.ModelInfo."""
    return ModelInfo(
        name=message.name,
        fingerprint=message.fingerprint,
        vocabulary_hash=message.vocabulary_hash,
        vocabulary_size=message.vocabulary_size,
        max_positions=message.max_positions,
        eos_token_ids=tuple(message.eos_token_ids),
        sampler_version=message.sampler_version,
        batch_invariant=message.batch_invariant,
        host=message.host,
        features=tuple(message.features),
        kv=_kv_from_proto(message.kv) if message.HasField("kv") else None,
        cores=_cores_from_proto(message.cores) if message.HasField("cores") else None,
        tokenizer_hash=message.tokenizer_hash,
        default_sampling=sampling_from_proto(message.default_sampling),
        memory=_memory_from_proto(message.memory) if message.HasField("memory") else None,
    )


def _cores_from_proto(message: model_pb2.Cores) -> Cores:
    return Cores(message.boot_id, tuple(message.cpus), message.limit, message.device)


def _kv_from_proto(message: model_pb2.KVSize) -> KVSize:
    return KVSize(message.page_tokens, message.pages, message.reserve)


def _memory_from_proto(message: model_pb2.ModelMemory) -> ModelMemory:
    return ModelMemory(message.weight_bytes, message.quantized_bytes, message.kv_token_bytes)


def machine_to_proto(machine: Machine) -> model_pb2.Machine:
    """paceline.v1.Machine."""
    return model_pb2.Machine(**dataclasses.asdict(machine))


def machine_from_proto(message: model_pb2.Machine) -> Machine:
    """paceline.v1.Machine."""
    return Machine(
        version=message.version,
        host=message.host,
        cores=message.cores,
        threads=message.threads,
        memory_bytes=message.memory_bytes,
        memory_available_bytes=message.memory_available_bytes,
        unix_seconds=message.unix_seconds,
        process=message.process,
    )
