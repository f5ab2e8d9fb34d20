"""What is checked before servers are started for a measurement."""

from collections.abc import Mapping

from paceline.engine.simulated import SimulatedModel, is_simulated
from paceline.errors import InvalidArgument, PacelineError
from paceline.model_files.check import check_model


def check_models(models: Mapping[str, str]) -> None:
    """Models by their flag: raise InvalidArgument for what names none, or none to be served."""
    for flag, model in models.items():
        try:
            if is_simulated(model):
                SimulatedModel.parse(model)
            else:
                check_model(model)
        except PacelineError as error:
            raise InvalidArgument(f"{flag}: {error}") from error
