"""python -m draft_server."""

from draft_server.service import DraftServer
from draft_server.settings import DraftSettings
from paceline.engine_server import run_engine_process
from paceline.settings import parse

NAMES = ("paceline.v1.DraftService", "paceline.v1.ModelService")


def main() -> None:
    """Run the process."""
    run_engine_process(parse(DraftSettings), NAMES, DraftServer)


if __name__ == "__main__":
    main()
