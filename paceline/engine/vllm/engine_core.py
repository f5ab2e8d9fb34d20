"""vLLM's engine core without its scheduler: config, weights, KV and the workers of all ranks."""

from collections.abc import Iterable
from dataclasses import fields
from pathlib import Path
from typing import Any

from vllm.engine.arg_utils import EngineArgs
from vllm.lora.request import LoRARequest
from vllm.platforms import current_platform
from vllm.v1.engine.core import EngineCore
from vllm.v1.executor import Executor
from vllm.v1.kv_cache_interface import AttentionSpec

from paceline.engine.interfaces import Rows
from paceline.engine.settings import EngineSettings
from paceline.engine.vllm import no_drafts, worker_extension
from paceline.engine.vllm.kv_blocks import KVBlocks
from paceline.engine.vllm.refusals import check_arguments, refusing
from paceline.engine.vllm.settings import VllmSettings
from paceline.engine.vllm.step import WorkerStep
from paceline.errors import FailedPrecondition

MAX_REQUESTS = 256
"""Most sessions in a forward pass; a step of more is several."""
CPU_KV_BYTES = 4 << 30
"""KV on a CPU, where vLLM would take nearly all memory. Its VLLM_CPU_KVCACHE_SPACE goes first."""
DRAFT_TOKENS = 8
"""Of a session in a step, for which vLLM prepares its kernels; more are verified all the same."""


class VllmCore:
    """The workers, and the KV that vLLM found room for."""

    def __init__(self, core: EngineCore, config: Any, adapter: LoRARequest | None) -> None:
        """Own a started engine core, of which the scheduler is never asked."""
        kv = core.scheduler.kv_cache_config
        page_tokens = _page_tokens(group.kv_cache_spec for group in kv.kv_cache_groups)
        self._executor = core.model_executor
        self.adapter = adapter
        self.groups = len(kv.kv_cache_groups)
        pool = core.scheduler.kv_cache_manager.block_pool
        self.blocks = KVBlocks(pool, page_tokens, self.groups)
        self.max_requests: int = config.scheduler_config.max_num_seqs
        self.max_tokens: int = config.scheduler_config.max_num_batched_tokens
        self.max_positions: int = config.model_config.max_model_len
        self.remote: bool = config.parallel_config.world_size > 1
        """Whether the workers are processes of their own."""
        self.picks: bool = self.remote or config.device_config.device_type != "cpu"
        """Whether tokens are picked where the logits are."""
        self.zeroes: bool = kv.needs_kv_cache_zeroing
        self._core = core

    def run(self, step: WorkerStep) -> list[Rows]:
        """Run a step on all ranks; the rows that it wants."""
        results: list[list[Rows] | None]
        results = self._executor.collective_rpc("paceline_step", args=(step,))
        return next(result for result in results if result is not None)

    def describe(self) -> dict[str, str]:
        """What decides the bits of rows, besides what the settings say."""
        said: list[dict[str, str]] = self._executor.collective_rpc("paceline_describe")
        return said[0]

    def stop(self) -> None:
        """End the workers."""
        self._core.shutdown()


def _page_tokens(specs: Iterable[Any]) -> int:
    """Tokens in a block of every group; FailedPrecondition where KV is not cut by tokens."""
    sizes = set()
    for spec in specs:
        layers = getattr(spec, "kv_cache_specs", {"": spec}).values()
        if not all(isinstance(layer, AttentionSpec) for layer in layers):
            raise FailedPrecondition(
                "this model has layers whose state cannot be cut back to a token "
                f"({type(spec).__name__}); only decoders of attention layers are served"
            )
        sizes.add(spec.block_size)
    if len(sizes) != 1:
        raise FailedPrecondition(
            f"vLLM has KV in blocks of {sorted(sizes)} tokens for this model; they must be equal"
        )
    return int(sizes.pop())


def start_core(folder: Path, settings: EngineSettings, vllm: VllmSettings) -> VllmCore:
    """Start vLLM's workers and load the model; FailedPrecondition with what vLLM has against it."""
    check_arguments(vllm.arguments, [field.name for field in fields(EngineArgs)])
    with refusing(folder, vllm.arguments):
        config = EngineArgs(**engine_arguments(folder, settings, vllm)).create_engine_config()
        core = EngineCore(config, Executor.get_class(config), log_stats=False)
    adapter = LoRARequest("adapter", 1, vllm.adapter) if vllm.adapter else None
    return VllmCore(core, config, adapter)


def engine_arguments(folder: Path, settings: EngineSettings, vllm: VllmSettings) -> dict[str, Any]:
    """Of vLLM's EngineArgs: what we need, then what the operator passes through."""
    kv_is_said = vllm.arguments.keys() & {"gpu_memory_utilization", "kv_cache_memory_bytes"}
    # With an adapter vLLM wants room for all draft tokens of all requests; a longer step is cut.
    rows = 1 + DRAFT_TOKENS if vllm.adapter else 1
    ranks = vllm.tensor_parallel_size * vllm.pipeline_parallel_size
    most = settings.max_batched_tokens
    ours = {
        "model": str(folder),
        "dtype": settings.dtype,
        "skip_tokenizer_init": True,
        "async_scheduling": False,
        "enable_prefix_caching": False,  # the engine shares prefixes, by salt
        "max_num_batched_tokens": most,
        "max_num_seqs": min(MAX_REQUESTS, most // rows),
        "tensor_parallel_size": vllm.tensor_parallel_size,
        "pipeline_parallel_size": vllm.pipeline_parallel_size,
        "distributed_executor_backend": "mp" if ranks > 1 else "uni",
        "worker_extension_cls": worker_extension.PATH,
        "speculative_config": {
            "method": "custom_class",
            "model": no_drafts.PATH,
            "num_speculative_tokens": DRAFT_TOKENS,
        },
        "disable_log_stats": True,
        "language_model_only": True,  # towers that see or hear are not loaded
        **({"enable_lora": True} if vllm.adapter else {}),
    }
    if current_platform.is_cpu() and not kv_is_said:
        ours["kv_cache_memory_bytes"] = CPU_KV_BYTES
    return ours | dict(vllm.arguments)
