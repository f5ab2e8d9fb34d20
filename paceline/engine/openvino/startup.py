"""From settings to a draft's engine on OpenVINO, where that is better than our own."""

import hashlib
import socket
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

import structlog
from prometheus_client import CollectorRegistry

from paceline.engine import load_progress
from paceline.engine.interfaces import StartedEngine
from paceline.engine.openvino.child import answer_of
from paceline.engine.openvino.measurements import (
    Comparison,
    Conditions,
    prepared_file,
    read_notes,
    write_notes,
)
from paceline.engine.openvino.prepared import PreparedDraft, read_prepared
from paceline.engine.sampling.sampler import SAMPLER_VERSION
from paceline.engine.settings import EngineSettings
from paceline.engine.torch.model_folder import resolve_model
from paceline.engine.torch.tokenizer_files import read_tokenizer
from paceline.engine.worker import start_worker
from paceline.errors import FailedPrecondition
from paceline.machine import own_cores
from paceline.protocol.features import OF_ENGINE
from paceline.protocol.model import ModelInfo, ModelMemory

_log = structlog.get_logger(__name__)


def is_installed() -> bool:
    """Whether OpenVINO is."""
    return find_spec("openvino") is not None


def why_not(settings: EngineSettings) -> str:
    """Why a draft with these settings is not for OpenVINO; empty where it is."""
    if not is_installed():
        return "OpenVINO is not installed; run: pip install 'paceline[openvino]'"
    if settings.device != "cpu":
        return f"--device is {settings.device}, and it computes on the CPU"
    if (settings.dtype, settings.weights) != ("bfloat16", "int4"):
        return "--dtype must be bfloat16 and --weights int4"
    return ""


def start_openvino(settings: EngineSettings, registry: CollectorRegistry) -> StartedEngine:
    """Start the engine, on a draft that is prepared first where it never was.

    Raises FailedPrecondition for a model that has no such graph, or that cannot be prepared.
    """
    folder = resolve_model(settings.model, load_progress.begin)
    found = measured(folder, settings.threads)
    return _start(settings, folder, found, registry)


def start_if_better(settings: EngineSettings, registry: CollectorRegistry) -> StartedEngine | None:
    """Start it where it is quicker than our own engine on this machine, and as right; else None.

    Nor does a draft that cannot be prepared start; the log says why.
    """
    folder = resolve_model(settings.model, load_progress.begin)
    try:
        found = measured(folder, settings.threads)
    except FailedPrecondition as error:
        _log.info("the draft runs on our own engine", reason=str(error))
        return None
    if found.reason:
        _log.info("the draft runs on our own engine", reason=f"{found.reason}: {found}")
        return None
    return _start(settings, folder, found, registry)


def measured(folder: Path, threads: int) -> Comparison:
    """Both engines of a draft: of an earlier run, else measured now."""
    file = prepared_file(folder)
    known, where = read_notes(file), Conditions.here(threads)
    if where not in known or not file.exists():
        load_progress.begin("preparing the draft for this machine, once")
        known[where] = _prepare(folder, file, threads)
        write_notes(file, known)
    return known[where]


def _prepare(folder: Path, file: Path, threads: int) -> Comparison:
    found = answer_of(
        *("paceline.engine.openvino.preparation", str(folder), str(file), f"--threads={threads}"),
        refused=f"{folder} cannot be prepared for OpenVINO",
    )
    return Comparison.of_json(found)


def _start(
    settings: EngineSettings, folder: Path, found: Comparison, registry: CollectorRegistry
) -> StartedEngine:
    from paceline.engine.openvino.runner import OpenvinoRunner  # OpenVINO, needed here only

    load_progress.begin("compiling the draft")
    draft = read_prepared(prepared_file(folder))
    pages = settings.kv_tokens // OpenvinoRunner.page_tokens
    runner = OpenvinoRunner(draft, settings.threads, pages)
    model = _model_info(settings, draft, runner.token_bytes)
    del draft  # OpenVINO has weights of its own
    engine = start_worker(settings, runner, registry, batch_invariant=False)
    _log.info(
        "engine started",
        model=model.name,
        fingerprint=model.fingerprint,
        batch_invariant=False,
        engine="openvino",
        reason=str(found),
    )
    computes_in = {"dtype": settings.dtype, "weights": settings.weights, "device": "cpu"}
    tokenizer = read_tokenizer(folder)
    return StartedEngine(engine, model, tokenizer, settings.threads, computes_in)


def _model_info(settings: EngineSettings, draft: PreparedDraft, token_bytes: int) -> ModelInfo:
    facts = draft.facts
    embeddings = draft.tensors["embeddings"].nbytes
    quantized = sum(one.nbytes for one in draft.tensors.values()) - embeddings
    numerics = f"{facts.weights_hash} {version('openvino')} {settings.weights}"
    return ModelInfo(
        name=settings.model_name or Path(settings.model).name,
        fingerprint=hashlib.sha256(numerics.encode()).hexdigest()[:16],
        vocabulary_hash=facts.vocabulary_hash,
        vocabulary_size=facts.vocabulary_size,
        max_positions=facts.max_positions,
        eos_token_ids=facts.eos_token_ids,
        sampler_version=SAMPLER_VERSION,
        batch_invariant=False,
        host=socket.gethostname(),
        cores=own_cores("cpu", ""),
        features=OF_ENGINE,
        default_sampling=facts.sampling,
        memory=ModelMemory(embeddings, quantized, token_bytes),
    )
