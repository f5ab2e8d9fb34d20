"""From settings to a running engine on vLLM: check the release, load, probe, start."""

import socket
from pathlib import Path

import structlog
from prometheus_client import CollectorRegistry

from paceline.engine import load_progress
from paceline.engine.interfaces import StartedEngine
from paceline.engine.sampling.sampler import SAMPLER_VERSION
from paceline.engine.settings import EngineSettings
from paceline.engine.vllm.arguments import argument_names
from paceline.engine.vllm.environment import prepare_environment
from paceline.engine.vllm.refusals import check_arguments, refusing
from paceline.engine.vllm.settings import ADAPTER_CONFIG, VllmSettings
from paceline.engine.vllm.version import check_version
from paceline.engine.worker import start_worker
from paceline.errors import InvalidArgument
from paceline.machine import own_cores
from paceline.model_files.check import check_model
from paceline.protocol.features import OF_ENGINE
from paceline.protocol.model import ModelInfo

_log = structlog.get_logger(__name__)


def start_vllm(
    settings: EngineSettings, vllm: VllmSettings, registry: CollectorRegistry
) -> StartedEngine:
    """Load the model into vLLM, probe its numerics and start the engine; takes a minute or two.

    Raises FailedPrecondition for what vLLM refuses, with its reason.
    """
    release = check_version()
    check_settings(settings)
    check_ranks(vllm)
    check_adapter(vllm)
    check_names(vllm)
    check_model(settings.model, any_weights=True)
    prepare_environment(settings.threads)
    # torch and vLLM, needed here only.
    from paceline.engine.vllm.engine_core import start_core
    from paceline.engine.vllm.model_files import read_files
    from paceline.engine.vllm.numerics import numerics
    from paceline.engine.vllm.probe import summary
    from paceline.engine.vllm.runner import VllmRunner

    files = read_files(settings.model)
    load_progress.begin("starting vLLM")
    core = start_core(files.folder, settings, vllm)
    runner = VllmRunner(core)
    load_progress.begin("measuring exactness")
    with refusing(files.folder, vllm.arguments):
        found = numerics(core, runner, files, release, settings, vllm)
    model = ModelInfo(
        name=settings.model_name or Path(settings.model).name,
        fingerprint=found.fingerprint,
        vocabulary_hash=files.vocabulary_hash,
        vocabulary_size=files.vocabulary_size,
        max_positions=core.max_positions,
        eos_token_ids=files.eos_token_ids,
        sampler_version=SAMPLER_VERSION,
        batch_invariant=not found.differing,
        host=socket.gethostname(),
        cores=own_cores(found.device),
        features=OF_ENGINE,
        default_sampling=files.default_sampling,
    )
    engine = start_worker(
        settings,
        runner,
        registry,
        batch_invariant=model.batch_invariant,
        kv_pages=_kv_pages(settings, core.blocks.free_pages, runner.page_tokens),
        at_end=core.stop,
    )
    _log.info(
        "engine started",
        model=model.name,
        fingerprint=model.fingerprint,
        weights=found.weights,
        batch_invariant=model.batch_invariant,
    )
    if found.differing:
        _log.debug("ways in which rows differ", reason="; ".join(map(str, found.differing)))
        _log.warning("rows are not batch-invariant", reason=summary(found.differing, found.ways))
    computes_in = {"dtype": settings.dtype, "weights": found.weights, "device": found.device}
    return StartedEngine(engine, model, files.tokenizer, settings.threads, computes_in)


def check_settings(settings: EngineSettings) -> None:
    """Raise InvalidArgument for what our own engine has and vLLM has not."""
    if settings.dtype == "float64":
        raise InvalidArgument.of(
            "--dtype", settings.dtype, "bfloat16 or float32 with --engine vllm"
        )
    if settings.weights != "bf16":
        limit = "bf16 with --engine vllm, which serves weights as their files have them"
        raise InvalidArgument.of("--weights", settings.weights, limit)
    if "device" in settings.model_fields_set:
        limit = "left out with --engine vllm: the installed build of vLLM says which it is"
        raise InvalidArgument.of("--device", settings.device, limit)


def check_ranks(vllm: VllmSettings) -> None:
    """Raise InvalidArgument for ranks that this release of vLLM does not start."""
    if vllm.pipeline_parallel_size > 1:
        limit = "1: vLLM 0.32.0 does not start pipelines that verify draft tokens of others"
        raise InvalidArgument.of("--pipeline-parallel-size", vllm.pipeline_parallel_size, limit)


def check_adapter(vllm: VllmSettings) -> None:
    """Raise InvalidArgument where there is none; vLLM would tell when the model is loaded."""
    if vllm.adapter and not (Path(vllm.adapter) / ADAPTER_CONFIG).is_file():
        limit = f"a folder with {ADAPTER_CONFIG}, and the adapter's weights beside it"
        raise InvalidArgument.of("--adapter", vllm.adapter, limit)


def check_names(vllm: VllmSettings) -> None:
    """Raise InvalidArgument for a name in --vllm-arguments that vLLM's source does not have.

    Where the source does not tell, start_core does so once vLLM is imported.
    """
    if vllm.arguments and (known := argument_names()):
        check_arguments(vllm.arguments, known)


def _kv_pages(settings: EngineSettings, found: int, page_tokens: int) -> int:
    """Pages for sessions: what vLLM has room for, or less where --kv-tokens says so."""
    if "kv_tokens" not in settings.model_fields_set:
        return found
    return min(found, settings.kv_tokens // page_tokens)
