"""What was found, as tables: for the terminal and for the page. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass

from paceline_tools.bench.report import TARGET_ONLY, Ratio
from paceline_tools.evaluation.alone import Alone
from paceline_tools.evaluation.prediction import Prediction
from paceline_tools.evaluation.recording import Recording
from paceline_tools.evaluation.results import HERE, Evaluated

SHOWN_LENGTHS = (1, 2, 3, 4, 6, 8, 16)
SHOWN_POSITIONS = (2, 4, 8)


@dataclass(frozen=True, slots=True)
class Figures:
    """A table. note: what its figures are."""

    title: str
    headings: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    note: str = ""


def all_tables(found: Sequence[Evaluated]) -> list[Figures]:
    """Those that have rows."""
    makers = (speeds, first_tokens, acceptance, costs, lengths, alone)
    return [table for table in (make(found) for make in makers) if table.rows]


def speeds(found: Sequence[Evaluated]) -> Figures:
    """Speed-ups, measured and predicted."""
    kinds = _kinds(found)
    rows = []
    for one in found:
        if measured := one.gathered.measured:
            cells = [_interval(measured[kind]) for kind in kinds]
            differ = str(one.gathered.differing_tokens)
            rows.append((one.candidate.name, "measured", *cells, differ))
        for name, (_, prediction) in one.predictions.items():
            cells = [_interval(prediction.intervals[kind]) for kind in kinds]
            how = "predicted" if name == HERE else f"predicted, {name}"
            rows.append((one.candidate.name, how, *cells, ""))
    return Figures(
        "Speed-up over the target alone, as the pacer decides",
        ("candidate", "how", *kinds, "differ"),
        tuple(rows),
        "Whole outputs, prompts included; with 95 % intervals over prompts. differ: tokens that "
        "speculation changed.",
    )


def first_tokens(found: Sequence[Evaluated]) -> Figures:
    """Times to the first token."""
    rows = []
    for one in found:
        if report := one.gathered.report:
            off, auto = report.speed(TARGET_ONLY), report.speed(report.speculative)
            rows.append(
                (
                    one.candidate.name,
                    *(f"{speed.first_token * 1e3:.0f}" for speed in (off, auto)),
                    *(f"{speed.tokens_per_second:.2f}" for speed in (off, auto)),
                    f"{auto.acceptance_rate:.2f}",
                )
            )
    headings = ("candidate", "first ms off", "auto ms", "tokens/s off", "auto tokens/s", "accepted")
    return Figures("Measured off and auto", headings, tuple(rows))


def acceptance(found: Sequence[Evaluated]) -> Figures:
    """Shares of right draft tokens."""
    kinds = _kinds(found)
    rows = []
    for one in found:
        if recording := one.gathered.recording:
            by_position = recording.by_position()
            at = [
                f"{by_position[n - 1]:.2f}" if n <= len(by_position) else ""
                for n in SHOWN_POSITIONS
            ]
            rates = [f"{recording.acceptance(kind):.2f}" for kind in kinds]
            rows.append((one.candidate.name, *rates, f"{recording.coverage():.0%}", *at))
    position_headings = (f"#{position}" for position in SHOWN_POSITIONS)
    return Figures(
        "Draft tokens that are the target's token",
        ("candidate", *kinds, "draft tokens at", *position_headings),
        tuple(rows),
        "Along the target's own outputs; #n: the nth of a round, all before it right.",
    )


def costs(found: Sequence[Evaluated]) -> Figures:
    """What things take."""
    rows = tuple(
        (one.candidate.name, *_costs(one.gathered.recording))
        for one in found
        if one.gathered.recording
    )
    headings = (
        "candidate",
        "draft token",
        "round trip",
        "prompt",
        "step",
        "with 4",
        "with 16",
        "its prompt",
    )
    note = (
        "Milliseconds: a draft token, the round trip to the draft, its prompt, each token; then "
        "a step of the target, one that verifies 4 or 16 draft tokens, and its prompt, each token."
    )
    return Figures("What things take", headings, rows, note)


def lengths(found: Sequence[Evaluated]) -> Figures:
    """Predictions by draft length."""
    rows = tuple(
        (one.candidate.name, name, *_by_length(prediction))
        for one in found
        for name, (_, prediction) in one.predictions.items()
    )
    headings = ("candidate", "where", *(f"at {length}" for length in SHOWN_LENGTHS), "paced")
    note = "The recording replayed through the real round and pacer, in virtual time."
    return Figures("Predicted speed-up by fixed draft length", headings, rows, note)


def alone(found: Sequence[Evaluated]) -> Figures:
    """Candidates that serve by themselves."""
    rows = []
    for one in found:
        gathered = one.gathered
        if gathered.alone and gathered.recording:
            agreement = f"{gathered.recording.acceptance():.0%}"
            speculation = f"{gathered.measured['all'].ratio:.2f}"
            rows.append((one.candidate.name, agreement, *_alone(gathered.alone), speculation))
    headings = (
        *("candidate", "agrees", "same", "differs at", "perplexity"),
        *("target's", "alone", "drafting"),
    )
    note = (
        "agrees: tokens that are the target's, behind the target's. same: outputs that are; the "
        "others differ first at the token named, in the median. perplexity: by the target, of the "
        "candidate's own outputs and of the target's. alone: its speed over the target's, by "
        "itself; drafting: that of the two together, which say what the target says."
    )
    return Figures("Why not just serve the small model", headings, tuple(rows), note)


def _kinds(found: Sequence[Evaluated]) -> list[str]:
    recordings = [one.gathered.recording for one in found if one.gathered.recording]
    return ["all", *dict.fromkeys(kind for one in recordings for kind in one.kinds)]


def _interval(one: Ratio) -> str:
    return f"{one.ratio:.2f}\n{one.low:.2f}-{one.high:.2f}"


def _costs(recording: Recording) -> list[str]:
    target, draft = recording.target_costs, recording.draft_costs
    verify = [target.verify.get(length) for length in (4, 16)]
    times = (draft.step, draft.round_trip, draft.prompt_token, target.step, *verify)
    return [
        "" if seconds is None else f"{seconds * 1e3:.1f}"
        for seconds in (*times, target.prompt_token)
    ]


def _by_length(prediction: Prediction) -> list[str]:
    by_length = [f"{prediction.fixed[length]['all']:.2f}" for length in SHOWN_LENGTHS]
    return [*by_length, f"{prediction.paced['all']:.2f}"]


def _alone(one: Alone) -> list[str]:
    perplexities = (one.perplexity, one.target_perplexity)
    return [
        f"{one.identical} of {one.outputs}",
        f"{one.divergence:.0f}" if one.identical < one.outputs else "",
        *("" if value is None else f"{value:.4g}" for value in perplexities),
        f"{one.speed.ratio:.2f}",
    ]
