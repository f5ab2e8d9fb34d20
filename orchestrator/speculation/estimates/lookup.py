"""What all streams measured of a draft that only looks up: how often it helps, its cost. Pure."""

from paceline.averages import Mean, Share

_PRIOR, _PRIOR_WEIGHT, _MEMORY = 0.5, 4.0, 400.0


class LookupMeasurements:
    """Of all streams.

    found: how often it had the next token. asking: seconds of a round beyond its step, where the
    draft was asked before the step.
    """

    def __init__(self) -> None:
        """Begin with a prior that lets it be asked."""
        self.found = Share(_PRIOR, _PRIOR_WEIGHT, _MEMORY)
        self.asking = Mean()

    def doubt(self) -> None:
        """What was found so far says little of what comes."""
        self.found.doubt(_PRIOR_WEIGHT)
