"""Which engine a draft has: torch, or one that runs prepared drafts."""

from prometheus_client import CollectorRegistry

from draft_server.settings import DraftSettings
from paceline.engine import simulated, start
from paceline.engine.drafts import startup
from paceline.engine.drafts.engines import ENGINES, TORCH
from paceline.engine.interfaces import StartedEngine
from paceline.model_files.check import check_model


def start_draft(settings: DraftSettings, registry: CollectorRegistry) -> StartedEngine:
    """Start what --model and --engine name.

    Raises FailedPrecondition where --engine names one that does not run the draft here.
    """
    if settings.engine == TORCH or simulated.is_simulated(settings.model):
        return start.start(settings, registry, drafts=True)
    check_model(settings.model)
    if settings.engine in ENGINES:
        return startup.start_prepared(ENGINES[settings.engine], settings, registry)
    found = startup.start_best(settings, registry)
    return found or start.start(settings, registry, drafts=True)
