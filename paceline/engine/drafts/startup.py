"""From settings to an engine of prepared drafts, where one is better than torch."""

import hashlib
import socket
from pathlib import Path

import structlog
from prometheus_client import CollectorRegistry

from paceline.engine import load_progress
from paceline.engine.drafts.child import PREPARING_SECONDS, answer_of
from paceline.engine.drafts.engines import ENGINES, TORCH, possible
from paceline.engine.drafts.measurements import (
    Comparison,
    Conditions,
    notes_file,
    prepared_file,
    read_notes,
    write_notes,
)
from paceline.engine.interfaces import PAGE_TOKENS, StartedEngine
from paceline.engine.prepared.draft_file import PreparedDraft, read_prepared
from paceline.engine.prepared.interface import PreparedEngine
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


SMALL = 64 * 1024**2
"""Bytes of weights that any engine reads in no time: such a draft is not worth preparing."""


def why_not(settings: EngineSettings) -> str:
    """Why a draft with these settings is not for prepared engines; empty where it is."""
    if settings.device != "cpu":
        return f"--device is {settings.device}, and it computes on the CPU"
    if (settings.dtype, settings.weights) != ("bfloat16", "int4"):
        return "--dtype must be bfloat16 and --weights int4"
    return ""


def start_prepared(
    engine: PreparedEngine, settings: EngineSettings, registry: CollectorRegistry
) -> StartedEngine:
    """Start the engine, on a draft that is prepared first where it never was.

    Raises FailedPrecondition where this machine lacks what it needs, and for a model that it does
    not run.
    """
    reason = why_not(settings) or engine.why_not()
    if reason:
        raise FailedPrecondition(f"--engine {engine.name}: {reason}")
    folder = resolve_model(settings.model, load_progress.begin)
    found = measured(folder, settings.threads)
    if engine.name in found.refused:
        raise FailedPrecondition(f"--engine {engine.name}: {found.refused[engine.name]}")
    return _start(engine, settings, folder, found, registry)


def start_best(settings: EngineSettings, registry: CollectorRegistry) -> StartedEngine | None:
    """Start the best engine of the draft on this machine, where that is not torch; else None.

    Nor does a draft that cannot be prepared start; the log says why.
    """
    if why_not(settings):
        return None
    folder = resolve_model(settings.model, load_progress.begin)
    if sum(one.stat().st_size for one in folder.glob("*.safetensors")) < SMALL:
        return None
    if not possible():  # asked last: it may have to compile
        return None
    try:
        found = measured(folder, settings.threads)
    except FailedPrecondition as error:
        _log.info("the draft runs on torch", reason=str(error))
        return None
    if found.best == TORCH:
        _log.info("the draft runs on torch", reason=str(found))
        return None
    return _start(ENGINES[found.best], settings, folder, found, registry)


def measured(folder: Path, threads: int) -> Comparison:
    """All engines of a draft that this machine has: of an earlier run, else measured now."""
    notes, where = notes_file(folder), Conditions.here(threads)
    known = read_notes(notes)
    if where not in known or not _has_files(folder, known[where]):
        load_progress.begin("preparing the draft for this machine, once")
        known[where] = _prepare(folder, threads)
        write_notes(notes, known)
    return known[where]


def _has_files(folder: Path, found: Comparison) -> bool:
    return all(prepared_file(folder, name).exists() for name in found.engines if name != TORCH)


def _prepare(folder: Path, threads: int) -> Comparison:
    found = answer_of(
        *("paceline.engine.drafts.preparation", str(folder), f"--threads={threads}"),
        refused=f"{folder} cannot be prepared",
        seconds=PREPARING_SECONDS,
    )
    return Comparison.of_json(found)


def _start(
    engine: PreparedEngine,
    settings: EngineSettings,
    folder: Path,
    found: Comparison,
    registry: CollectorRegistry,
) -> StartedEngine:
    load_progress.begin("compiling the draft")
    draft = read_prepared(prepared_file(folder, engine.name))
    runner = engine.runner(draft, settings.threads, settings.kv_tokens // PAGE_TOKENS)
    model = _model_info(engine, settings, draft, runner.token_bytes)
    del draft  # an engine has weights of its own
    worker = start_worker(settings, runner, registry, batch_invariant=False)
    _log.info(
        "engine started",
        model=model.name,
        fingerprint=model.fingerprint,
        batch_invariant=False,
        engine=engine.name,
        reason=str(found),
    )
    computes_in = {"dtype": settings.dtype, "weights": settings.weights, "device": "cpu"}
    tokenizer = read_tokenizer(folder)
    return StartedEngine(worker, model, tokenizer, settings.threads, computes_in)


def _model_info(
    engine: PreparedEngine, settings: EngineSettings, draft: PreparedDraft, token_bytes: int
) -> ModelInfo:
    facts = draft.facts
    embeddings = draft.tensors["embeddings"].nbytes
    quantized = sum(one.nbytes for one in draft.tensors.values()) - embeddings
    numerics = f"{facts.weights_hash} {engine.name} {engine.release()} {settings.weights}"
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
