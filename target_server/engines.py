"""The engine that --engine names."""

from prometheus_client import CollectorRegistry

from paceline.engine import simulated
from paceline.engine.interfaces import StartedEngine
from paceline.engine.start import start
from paceline.engine.vllm.startup import start_vllm
from target_server.settings import TargetSettings


def start_engine(settings: TargetSettings, registry: CollectorRegistry) -> StartedEngine:
    """Start it; a simulated model is simulated on either."""
    if settings.engine == "vllm" and not simulated.is_simulated(settings.model):
        return start_vllm(settings, settings.vllm, registry)
    return start(settings, registry)
