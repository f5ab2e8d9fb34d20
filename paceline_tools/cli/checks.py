"""What is checked before servers are started for a measurement."""

from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path

from draft_server.drafters.registry import DRAFTERS
from paceline.errors import FailedPrecondition, InvalidArgument, PacelineError
from paceline_tools.start_checks import check_home, check_serving


def check_models(models: Mapping[str, str]) -> None:
    """Models by their flag: raise InvalidArgument for what names none, or none to be served."""
    check_home()
    for flag, model in models.items():
        try:
            check_serving(model, DRAFTERS)
        except PacelineError as error:
            raise InvalidArgument(f"{flag}: {error}") from error


def check_matplotlib(outputs: Mapping[str, Path | None]) -> None:
    """Pictures by their flag: raise FailedPrecondition where nothing here could draw them."""
    wanted = [flag for flag, path in outputs.items() if path is not None]
    if wanted and find_spec("matplotlib") is None:
        what = f"{' and '.join(wanted)} need matplotlib"
        raise FailedPrecondition(f"{what}; run: pip install matplotlib")
