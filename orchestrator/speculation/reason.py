"""Why a step is planned as it is: told in logs and metrics, in a word. Pure."""

from paceline.values import Name


class Reason(Name):
    """Why the next step is planned as it is.

    no_draft: there is no draft, or it is late. measuring: an ordinary decode step is measured, to
    compare with. speculating: draft tokens are asked for, and verified where any are at hand and
    worth it. shared_cores: other streams need the cores that draft and target share. too_short: too
    few tokens are to go for the draft to read the prompt. opening: the draft reads the prompt, and
    is waited for. paused_acceptance: too few draft tokens are accepted. paused_benched: the draft
    is benched, or many streams at once lost by it. paused_cost: speculation costs more than the
    target alone, which is fast enough.
    paused_speedup: speculation is slower than the target alone. probing: a few draft tokens are
    verified to see whether a pause still holds.
    """

    NO_DRAFT = "no_draft"
    MEASURING = "measuring"
    SPECULATING = "speculating"
    SHARED = "shared_cores"
    TOO_SHORT = "too_short"
    OPENING = "opening"
    PAUSED_ACCEPTANCE = "paused_acceptance"
    PAUSED_BENCHED = "paused_benched"
    PAUSED_COST = "paused_cost"
    PAUSED_SPEEDUP = "paused_speedup"
    PROBING = "probing"


PAUSED = {
    Reason.PAUSED_ACCEPTANCE,
    Reason.PAUSED_BENCHED,
    Reason.PAUSED_COST,
    Reason.PAUSED_SPEEDUP,
}
"""The stream has given speculation up for a while."""
DRAFTING = {Reason.SPECULATING, Reason.PROBING, Reason.OPENING}
"""Draft tokens are asked for."""
