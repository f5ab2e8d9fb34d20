"""Which engine a draft has: Paceline's own, or OpenVINO where somebody says so."""

from prometheus_client import CollectorRegistry

from draft_server.settings import DraftSettings
from paceline.engine import simulated, start
from paceline.engine.interfaces import StartedEngine
from paceline.engine.openvino import startup as openvino
from paceline.errors import FailedPrecondition
from paceline.model_files.check import check_model


def start_draft(settings: DraftSettings, registry: CollectorRegistry) -> StartedEngine:
    """Start what --model and --engine name.

    Raises FailedPrecondition where --engine openvino has a draft that it does not run.
    """
    if settings.engine == "own" or simulated.is_simulated(settings.model):
        return start.start(settings, registry, drafts=True)
    check_model(settings.model)
    reason = openvino.why_not(settings)
    if settings.engine == "openvino":
        if reason:
            raise FailedPrecondition(f"--engine openvino: {reason}")
        return openvino.start_openvino(settings, registry)
    found = None if reason else openvino.start_if_better(settings, registry)
    return found or start.start(settings, registry, drafts=True)
