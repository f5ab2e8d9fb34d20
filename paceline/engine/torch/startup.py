"""From settings to a running engine: load, probe, start."""

import dataclasses
import socket
from dataclasses import dataclass, replace
from pathlib import Path

import structlog
import torch
import transformers
from prometheus_client import CollectorRegistry

from paceline.engine import load_progress
from paceline.engine.interfaces import BranchingCache, Runner, Span, StartedEngine
from paceline.engine.sampling.sampler import SAMPLER_VERSION
from paceline.engine.settings import EngineSettings
from paceline.engine.torch.exactness.fingerprint import fingerprint, forward_config
from paceline.engine.torch.exactness.instruction_set import instruction_set
from paceline.engine.torch.exactness.operators import BatchInvariantOperators
from paceline.engine.torch.exactness.probe import Probed, first_bits, probe, probed_tokens
from paceline.engine.torch.kernels import has_kernels
from paceline.engine.torch.loading import LoadedModel, load_model
from paceline.engine.torch.model_folder import resolve_model
from paceline.engine.torch.padding import NO_PADDING, Padding, batch_invariant
from paceline.engine.torch.runners import TorchRunner, make_runner
from paceline.engine.worker import start_worker
from paceline.errors import FailedPrecondition, InvalidArgument, in_a_line
from paceline.machine import own_cores
from paceline.protocol.features import BRANCHES, OF_ENGINE
from paceline.protocol.model import ModelInfo, ModelMemory

_log = structlog.get_logger(__name__)


def start_torch(settings: EngineSettings, registry: CollectorRegistry) -> StartedEngine:
    """Load the model, probe its numerics and start the engine; takes seconds to minutes.

    Raises FailedPrecondition for a model that cannot be served, or whose rows depend on their
    batch where they should not.
    """
    torch.set_num_threads(settings.threads)
    check_device(settings.device)
    # What matters of its reports is in our errors, a line each.
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    loaded, runner, numerics = _load(settings)
    model = replace(
        _model_info(settings, loaded, numerics),
        features=_features(runner, numerics),
        memory=_memory(loaded, runner),
    )
    invariant = numerics.batch_invariant
    engine = start_worker(settings, runner, registry, batch_invariant=invariant)
    _log.info(
        "engine started",
        model=model.name,
        fingerprint=model.fingerprint,
        batch_invariant=model.batch_invariant,
    )
    computes_in = {
        "dtype": settings.dtype,
        "weights": settings.weights,
        "device": settings.device,
    }
    return StartedEngine(engine, model, loaded.tokenizer, settings.threads, computes_in)


def check_device(name: str) -> None:
    """Raise InvalidArgument where torch has no such device here."""
    try:
        torch.empty(1, device=name)
    except Exception as error:
        reason = in_a_line(error, kind=False).partition("device type at start")[0]
        limit = f"a device that torch has here, such as cpu ({reason.strip()})"
        raise InvalidArgument.of("--device", name, limit) from error


def device_name(device: str) -> str:
    """A name that is a GPU's own on its machine, whatever its number in this process; else none."""
    if not device.startswith("cuda"):
        return ""
    properties = torch.cuda.get_device_properties(device)
    return f"cuda {getattr(properties, 'uuid', device)}"


@dataclass(frozen=True, slots=True)
class Numerics:
    """What ModelInfo says of the bits of the model's rows."""

    fingerprint: str
    batch_invariant: bool
    branches_agree: bool = True


def _model_info(settings: EngineSettings, loaded: LoadedModel, numerics: Numerics) -> ModelInfo:
    return ModelInfo(
        name=settings.model_name or Path(settings.model).name,
        fingerprint=numerics.fingerprint,
        vocabulary_hash=loaded.vocabulary_hash,
        vocabulary_size=loaded.vocabulary_size,
        max_positions=loaded.max_positions,
        eos_token_ids=loaded.eos_token_ids,
        sampler_version=SAMPLER_VERSION,
        batch_invariant=numerics.batch_invariant,
        host=socket.gethostname(),
        cores=own_cores(settings.device, device_name(settings.device)),
        default_sampling=loaded.default_sampling,
    )


def _features(runner: Runner, numerics: Numerics) -> tuple[str, ...]:
    if not isinstance(runner.new_cache(), BranchingCache):
        return OF_ENGINE
    if numerics.branches_agree:
        return (*OF_ENGINE, BRANCHES)
    reason = "rows of branches have other bits here than the same tokens have in plain steps"
    _log.warning("branches are not taken", reason=reason)
    return OF_ENGINE


def _memory(loaded: LoadedModel, runner: TorchRunner) -> ModelMemory:
    """What the model takes; of KV as a first token has it."""
    cache = runner.new_cache()
    runner.forward([(cache, Span(0, (0,), 1))])
    return ModelMemory(loaded.weight_bytes, loaded.quantized_bytes, cache.token_bytes)


def _load(settings: EngineSettings) -> tuple[LoadedModel, TorchRunner, Numerics]:
    dtype: torch.dtype = getattr(torch, settings.dtype)
    folder = resolve_model(settings.model, load_progress.begin)
    invariant = settings.needs_batch_invariance
    most = settings.max_batched_tokens
    operators = BatchInvariantOperators(most, settings.products_of_device) if invariant else None
    loaded = load_model(folder, dtype, settings.device, settings.weights, operators)
    if operators is None:
        runner = make_runner(loaded, NO_PADDING, settings.dtype, settings.kv_tokens)
        name = fingerprint(_parts(settings, loaded, runner, NO_PADDING))
        return loaded, runner, Numerics(name, batch_invariant=False)
    padding = replace(batch_invariant(dtype, most), unpadded=operators.unpadded)
    runner, seen = _probed(settings, loaded, padding)
    differing = (*operators.varying, *seen.differing)
    if differing:
        _refuse(settings, loaded, differing)
    name = fingerprint((*_parts(settings, loaded, runner, padding), operators.numerics))
    return loaded, runner, Numerics(name, not differing, seen.branches_agree)


def _parts(
    settings: EngineSettings, loaded: LoadedModel, runner: TorchRunner, padding: Padding
) -> tuple[str, ...]:
    """What decides the bits of the runner's rows, and some of these bits."""
    dtype: torch.dtype = getattr(torch, settings.dtype)
    kernels = ("pages", "norms") if has_kernels(loaded.device.type, dtype) else ()
    bits = first_bits(runner, loaded.vocabulary_size)
    return (*numerics_parts(loaded, settings.weights, padding), *kernels, bits)


def _probed(
    settings: EngineSettings, loaded: LoadedModel, padding: Padding
) -> tuple[TorchRunner, Probed]:
    """A runner, and where its rows' bits differed; steps of a few rows are padded if they must."""
    runner = make_runner(loaded, padding, settings.dtype, settings.kv_tokens)
    limits = loaded.max_positions, padding.max_batched_tokens
    advance = load_progress.counted("measuring exactness", probed_tokens(runner, *limits), "tokens")
    seen = probe(runner, loaded.vocabulary_size, *limits, advance)
    if not (seen.differing and padding.unpadded):
        return runner, seen
    del runner
    return _probed(settings, loaded, replace(padding, unpadded=0))


def numerics_parts(loaded: LoadedModel, weights: str, padding: Padding) -> tuple[str, ...]:
    """What decides the bits of a model's rows, besides what was measured."""
    return (
        loaded.weights_hash,
        forward_config(loaded.config),
        f"weights {weights}",
        f"model {loaded.kind}",
        f"device {loaded.device.type}",
        f"padding {dataclasses.replace(padding, max_batched_tokens=0)}",
        instruction_set(),
    )


def _refuse(settings: EngineSettings, loaded: LoadedModel, differing: tuple[str, ...]) -> None:
    """Raise FailedPrecondition; only warn where such a model is to be served all the same."""
    what = (
        f"model type {loaded.config.get('model_type')!r} has rows whose bits depend on their batch "
        f"here: {'; '.join(differing)}"
    )
    if not settings.serves_inexact:
        raise FailedPrecondition(f"{what}; --allow-inexact serves it all the same")
    _log.warning("rows are not batch-invariant", reason=what)
