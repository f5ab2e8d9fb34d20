"""python -m draft_server."""

from paceline import interrupts  # noqa: F401  # isort: skip  before what takes long

from prometheus_client import CollectorRegistry

from draft_server.drafters.registry import DRAFTERS
from draft_server.engine_without_model import start_without_model
from draft_server.engines import start_draft
from draft_server.service import draft_server
from draft_server.settings import DraftSettings
from paceline.engine.interfaces import StartedEngine
from paceline.engine_server.process import run_engine_process
from paceline.settings import parse

NAMES = ("paceline.v1.DraftService", "paceline.v1.ModelService")


def start(settings: DraftSettings, registry: CollectorRegistry) -> StartedEngine:
    """Start the engine. Without a model it never imports torch."""
    if DRAFTERS[settings.drafter].needs_model:
        return start_draft(settings, registry)
    return start_without_model(settings, registry)


def main() -> None:
    """Run the process."""
    settings = parse(DraftSettings)
    run_engine_process(settings, NAMES, start, draft_server(settings.drafter))


if __name__ == "__main__":
    main()
