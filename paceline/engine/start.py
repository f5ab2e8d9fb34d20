"""Starts the engine that a model's name stands for."""

from prometheus_client import CollectorRegistry

from paceline.engine import simulated
from paceline.engine.interfaces import StartedEngine
from paceline.engine.settings import EngineSettings
from paceline.errors import FailedPrecondition
from paceline.model_files.check import check_model


def start(
    settings: EngineSettings, registry: CollectorRegistry, *, drafts: bool = False
) -> StartedEngine:
    """Start what --model names; drafts: as a draft.

    A simulated model never imports torch, nor does one whose files show that it cannot be served.
    """
    if simulated.is_simulated(settings.model):
        return simulated.start_simulated(settings, registry, drafts=drafts)
    check_model(settings.model)
    try:
        from paceline.engine.torch.startup import start_torch  # torch, needed here only
    except ModuleNotFoundError as error:
        what = f"models need the engine extra, and {error.name} is not installed"
        raise FailedPrecondition(f"{what}; run: pip install 'paceline[engine]'") from error
    return start_torch(settings, registry)
