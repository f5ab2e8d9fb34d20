"""What an orchestrator says of itself to a gateway. Pure."""

import json
from collections.abc import Sequence

from smg_grpc_proto.generated import vllm_engine_pb2 as vllm

from paceline.protocol.model import ModelInfo
from paceline.protocol.sampling import Sampling
from paceline.protocol.status import Server, Status

SERVER_TYPE = "vllm-grpc"
"""What the gateway takes for an engine of this protocol."""
_DEFAULTS = ("temperature", "top_p", "top_k", "min_p", "repetition_penalty")
"""Sampling that the gateway puts into requests that do not say it."""


def model_info(model: ModelInfo, default: Sampling) -> vllm.GetModelInfoResponse:
    """The model. The paths are no paths: the gateway then asks for the tokenizer."""
    said = {name: getattr(default, name) for name in _DEFAULTS}
    stated = {name: value for name, value in said.items() if value is not None}
    return vllm.GetModelInfoResponse(
        model_path=model.name,
        tokenizer_path=model.name,
        is_generation=True,
        max_context_length=model.max_positions,
        vocab_size=model.vocabulary_size,
        served_model_name=model.name,
        eos_token_ids=model.eos_token_ids,
        max_req_input_len=model.max_positions - 1,
        default_sampling_params_json=json.dumps(stated) if stated else "",
    )


def server_info(calls: int, uptime_seconds: float) -> vllm.GetServerInfoResponse:
    """The process."""
    return vllm.GetServerInfoResponse(
        active_requests=calls,
        uptime_seconds=uptime_seconds,
        server_type=SERVER_TYPE,
        data_parallel_size=1,
    )


def loads(status: Status, targets: Sequence[Server], timestamp: str) -> vllm.GetLoadsResponse:
    """The orchestrator as one rank: its streams, and the fullest of its targets."""
    waiting = status.totals.waiting
    running = status.totals.running - waiting
    used = sum(_tokens(one, one.load.kv_pages_used) for one in targets)
    total = sum(_tokens(one, one.load.kv_pages_total) for one in targets)
    usage = max((one.kv_share for one in targets), default=0.0)
    load = vllm.SchedulerLoad(
        num_running_reqs=running,
        num_waiting_reqs=waiting,
        num_total_reqs=running + waiting,
        num_used_tokens=used,
        max_total_num_tokens=total,
        token_usage=usage,
        utilization=usage,
    )
    version = status.machine.version
    return vllm.GetLoadsResponse(
        timestamp=timestamp, version=version, dp_rank_count=1, loads=[load]
    )


def _tokens(target: Server, pages: int) -> int:
    kv = target.model.kv if target.model is not None else None
    return pages * kv.page_tokens if kv is not None else 0
