"""Why a step is planned as it is: told in logs and metrics. Pure."""

import enum


class Reason(enum.Enum):
    """Why the next step is planned as it is."""

    NO_DRAFT = "no draft, or it is late"
    MEASURING = "measuring an ordinary decode step"
    SPECULATING = "speculating"
    SHARED = "other streams need the cores that draft and target share"
    TOO_SHORT = "too few tokens to go for the draft to read the prompt"
    OPENING = "waiting for the draft to read the prompt"
    PAUSED_ACCEPTANCE = "paused: too few draft tokens are accepted"
    PAUSED_BENCHED = "paused: the draft is benched"
    PAUSED_SPEEDUP = "paused: slower than the target alone"
    PROBING = "probing"


DRAFTING = {Reason.SPECULATING, Reason.PROBING, Reason.OPENING}
"""Draft tokens are asked for."""
