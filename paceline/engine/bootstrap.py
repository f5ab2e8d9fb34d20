"""From settings to a running engine: load, probe, start."""

import socket
from pathlib import Path

import structlog
import torch
from prometheus_client import CollectorRegistry

from paceline.engine.exact import ExactOperators
from paceline.engine.fingerprint import fingerprint, probe
from paceline.engine.law import LAW_VERSION
from paceline.engine.loading import load_model
from paceline.engine.padding import NONE, exact
from paceline.engine.runner import ModelRunner
from paceline.engine.settings import EngineSettings
from paceline.engine.started import StartedEngine, run_engine
from paceline.machine import own_cores
from paceline.models import resolve_model
from paceline.session import ModelInfo

FEATURES = ("logprobs", "prompt_logprobs")
"""What Open.required_features may name."""

_log = structlog.get_logger(__name__)


def start_engine(settings: EngineSettings, registry: CollectorRegistry) -> StartedEngine:
    """Load the model, probe its numerics and start the engine; takes seconds to minutes."""
    torch.set_num_threads(settings.threads)
    dtype: torch.dtype = getattr(torch, settings.dtype)
    folder = resolve_model(settings.model)
    operators = ExactOperators(settings.step_rows) if settings.needs_exact_rows else None
    loaded = load_model(folder, dtype, settings.device, settings.weights, operators)
    padding = exact(dtype) if settings.needs_exact_rows else NONE
    runner = ModelRunner(loaded.decoder, loaded.device, padding)
    row_exact, probed = probe(runner, loaded.vocabulary_size)
    if settings.needs_exact_rows and not row_exact:
        _log.warning("rows are not exact on this device: outputs may depend on the batch")
    model = ModelInfo(
        name=settings.model_name or Path(settings.model).name,
        fingerprint=fingerprint(loaded, dtype, probed),
        vocabulary_hash=loaded.vocabulary_hash,
        vocabulary_size=loaded.vocabulary_size,
        max_positions=loaded.max_positions,
        eos_token_ids=loaded.eos_token_ids,
        law_version=LAW_VERSION,
        row_exact=row_exact,
        host=socket.gethostname(),
        cores=own_cores(settings.device),
        features=FEATURES,
    )
    engine = run_engine(settings, runner, registry)
    _log.info(
        "engine started", model=model.name, fingerprint=model.fingerprint, row_exact=row_exact
    )
    return StartedEngine(engine, model, loaded.tokenizer, settings.threads)
