"""python -m draft_server."""

from draft_server.lookup_engine import start_lookup
from draft_server.service import draft_server
from draft_server.settings import DraftSettings
from paceline.engine_server import run_engine_process
from paceline.settings import parse

NAMES = ("paceline.v1.DraftService", "paceline.v1.ModelService")


def main() -> None:
    """Run the process. One that only looks up never imports torch."""
    settings = parse(DraftSettings)
    if settings.drafter == "ngram":
        start = start_lookup
    else:
        from paceline.engine.bootstrap import start_engine  # torch, needed here only

        start = start_engine
    run_engine_process(settings, NAMES, start, draft_server(settings.drafter))


if __name__ == "__main__":
    main()
