"""python -m target_server."""

from paceline import interrupts  # noqa: F401  # isort: skip  before what takes long

from paceline.engine_server.process import run_engine_process
from paceline.settings import parse
from target_server.engines import start_engine
from target_server.service import TargetServer
from target_server.settings import TargetSettings

NAMES = ("paceline.v1.TargetService", "paceline.v1.ModelService")


def main() -> None:
    """Run the process."""
    run_engine_process(parse(TargetSettings), NAMES, start_engine, TargetServer)


if __name__ == "__main__":
    main()
