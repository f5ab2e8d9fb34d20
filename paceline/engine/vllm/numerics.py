"""What decides the bits of vLLM's rows here, and whether they are exact."""

import json
from dataclasses import dataclass

from paceline.engine.settings import EngineSettings
from paceline.engine.torch.exactness.fingerprint import fingerprint
from paceline.engine.torch.exactness.instruction_set import instruction_set
from paceline.engine.torch.exactness.probe import first_bits
from paceline.engine.vllm.engine_core import VllmCore
from paceline.engine.vllm.model_files import ModelFiles, hash_adapter
from paceline.engine.vllm.probe import probe
from paceline.engine.vllm.runner import VllmRunner
from paceline.engine.vllm.settings import VllmSettings

_HASH = 16


@dataclass(frozen=True, slots=True)
class VllmNumerics:
    """fingerprint: names engine, release, dtype, attention and ranks. differing: as of probe."""

    fingerprint: str
    differing: tuple[str, ...]
    device: str
    weights: str


def numerics(
    core: VllmCore,
    runner: VllmRunner,
    files: ModelFiles,
    release: str,
    settings: EngineSettings,
    vllm: VllmSettings,
) -> VllmNumerics:
    """Ask the workers, and run the probe."""
    said = core.describe()
    weights = files.quantized or "as in its files"
    named = (
        f"vllm-{release}",
        settings.dtype,
        said["attention"],
        f"tp{vllm.tensor_parallel_size}",
        f"pp{vllm.pipeline_parallel_size}",
    )
    parts = (
        *named,
        files.weights_hash,
        files.config,
        f"device {said['machine'] or instruction_set()}",
        f"adapter {hash_adapter(vllm.adapter)}",
        json.dumps(dict(vllm.arguments), sort_keys=True, default=str),
        first_bits(runner, files.vocabulary_size),
    )
    differing = probe(runner, files.vocabulary_size, core.max_positions, core.max_tokens)
    digest = fingerprint(parts)[:_HASH]
    return VllmNumerics("-".join((*named, digest)), differing, said["device"], weights)
