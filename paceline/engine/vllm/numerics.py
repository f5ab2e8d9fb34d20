"""What decides the bits of vLLM's rows here, and whether they are exact."""

import json
from dataclasses import dataclass

from paceline.engine.settings import EngineSettings
from paceline.engine.torch.exactness.fingerprint import fingerprint
from paceline.engine.torch.exactness.instruction_set import instruction_set
from paceline.engine.torch.exactness.probe import first_bits
from paceline.engine.vllm.engine_core import VllmCore
from paceline.engine.vllm.model_files import ModelFiles, hash_adapter
from paceline.engine.vllm.probe import Tried, probe
from paceline.engine.vllm.runner import VllmRunner
from paceline.engine.vllm.settings import VllmSettings

_HASH = 16


@dataclass(frozen=True, slots=True)
class VllmNumerics:
    """fingerprint: names engine, release, dtype, attention and ranks.

    differing: of the ways in which the probe computed rows again, `ways`, those that differed.
    """

    fingerprint: str
    differing: tuple[Tried, ...]
    ways: int
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
    tried = probe(runner, files.vocabulary_size, core.max_positions, core.max_tokens)
    digest = fingerprint(parts)[:_HASH]
    differing = tuple(one for one in tried if one.difference)
    name = "-".join((*named, digest))
    return VllmNumerics(name, differing, len(tried), said["device"], weights)
