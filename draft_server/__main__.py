"""python -m draft_server."""

from prometheus_client import CollectorRegistry

from draft_server.model_free import start_lookup
from draft_server.service import draft_server
from draft_server.settings import DraftSettings
from paceline.engine import start as engine
from paceline.engine.interfaces import StartedEngine
from paceline.engine_server.process import run_engine_process
from paceline.settings import parse

NAMES = ("paceline.v1.DraftService", "paceline.v1.ModelService")


def start(settings: DraftSettings, registry: CollectorRegistry) -> StartedEngine:
    """Start what draft tokens. One that looks up only never imports torch."""
    if settings.drafter == "ngram":
        return start_lookup(settings, registry)
    return engine.start(settings, registry, drafts=True)


def main() -> None:
    """Run the process."""
    settings = parse(DraftSettings)
    run_engine_process(settings, NAMES, start, draft_server(settings.drafter))


if __name__ == "__main__":
    main()
