"""What a machine's costs allow speculation to bring, in virtual time on the real pair's tokens.

python -m benchmarks.costs_allow: for two kinds of CPU, by what steps of each number of rows, a
draft token and a prompt's token took there, the speed over the target alone: as the pacer decides
and nothing but steps takes time, and with the prompt before outputs of 96 and of 40 tokens.
"""

from dataclasses import dataclass

from rich.console import Console
from rich.progress import track
from rich.table import Table

from benchmarks.policies import RECORDINGS
from paceline_tools.evaluation.prediction import Deployment, adaptive, fixed, replay, speedups
from paceline_tools.evaluation.recording import (
    DraftCosts,
    Recording,
    TargetCosts,
    load_recordings,
)

KINDS = ("all", "code", "chat", "prose", "edit")
ROUND_SECONDS = 0.002
"""Of a round, beside steps."""


@dataclass(frozen=True)
class Machine:
    """What was measured on it, ms: steps by draft tokens, a draft token, a token of a prompt."""

    name: str
    verify: dict[int, float]
    draft: float
    prompt: float
    draft_prompt: float


MACHINES = (
    Machine("AVX-512", {0: 92, 1: 96, 3: 98, 5: 102, 7: 105, 11: 123, 15: 159}, 11, 3.5, 0.9),
    Machine("AVX2", {0: 163, 1: 161, 3: 185, 7: 327, 15: 534}, 20, 22, 5.5),
)
"""docs/performance.md has the tables. The draft's prompt is a quarter of the target's, by size."""
OUTPUTS = (("steps alone", 96, False), ("96 tokens", 96, True), ("40 tokens", 40, True))
"""How long they are, and whether prompts and rounds take time."""


def on(machine: Machine, recording: Recording, tokens: int, *, whole: bool) -> Recording:
    """The recording with outputs of so many tokens, at the machine's costs."""
    trip = ROUND_SECONDS / 2 if whole else 0.0
    verify = {count: ms / 1e3 for count, ms in machine.verify.items()}
    costs = {
        "target_costs": TargetCosts(
            verify=verify,
            prompt_token=machine.prompt / 1e3 if whole else 0.0,
            round_trip=trip,
            verify_token=(verify[7] - verify[0]) / 7,
        ),
        "draft_costs": DraftCosts(
            step=machine.draft / 1e3,
            restart=machine.draft / 1e3 + trip,
            prompt_token=machine.draft_prompt / 1e3 if whole else 0.0,
        ),
    }
    outputs = tuple(output.head(tokens) for output in recording.outputs)
    return recording.model_copy(update={**costs, "outputs": outputs})


def main() -> None:
    """Print the table."""
    [recording] = [one for one in load_recordings(RECORDINGS) if one.drafter == "hybrid"]
    table = Table(title="Speed over the target alone, that costs allow")
    for heading in ("CPU", "outputs", *KINDS):
        table.add_column(heading, justify="right" if heading in KINDS else "left")
    cases = [(machine, *output) for machine in MACHINES for output in OUTPUTS]
    for machine, name, tokens, whole in track(cases, console=Console(stderr=True)):
        replayed, deployment = on(machine, recording, tokens, whole=whole), Deployment(shared=True)
        alone = replay(replayed, deployment, fixed(0))
        found = speedups(alone, replay(replayed, deployment, adaptive, 2))
        table.add_row(machine.name, name, *(f"{found[kind]:.2f}" for kind in KINDS))
    Console().print(table)


if __name__ == "__main__":
    main()
