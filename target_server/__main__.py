"""python -m target_server."""

from prometheus_client import CollectorRegistry

from paceline.engine import simulated
from paceline.engine.started import StartedEngine
from paceline.engine_server import run_engine_process
from paceline.settings import parse
from target_server.service import TargetServer
from target_server.settings import TargetSettings

NAMES = ("paceline.v1.TargetService", "paceline.v1.ModelService")


def start(settings: TargetSettings, registry: CollectorRegistry) -> StartedEngine:
    """Start what --model names. One that is simulated never imports torch."""
    if settings.model.startswith(simulated.PREFIX):
        return simulated.start_simulated(settings, registry, drafts=False)
    from paceline.engine.bootstrap import start_engine  # torch, needed here only

    return start_engine(settings, registry)


def main() -> None:
    """Run the process."""
    run_engine_process(parse(TargetSettings), NAMES, start, TargetServer)


if __name__ == "__main__":
    main()
