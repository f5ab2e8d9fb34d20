"""paceline evaluate --live: whether to promote a draft that an orchestrator shadows."""

import asyncio
import json
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.padding import Padding
from rich.text import Text

from paceline.errors import FailedPrecondition
from paceline.protocol.status import Status
from paceline_tools.cli.asked import asking
from paceline_tools.evaluation.live import RUNS, Candidate, judged, outcome
from paceline_tools.evaluation.recommendation import Use
from paceline_tools.progress import progress
from paceline_tools.terminal import console, plain

COLORS = {Use.USE: "green", Use.DO_NOT_USE: "red", Use.CANNOT_TELL: "magenta"}
STATUS = {Use.USE: 0, Use.DO_NOT_USE: 3, Use.CANNOT_TELL: 4}


def evaluate_live(address: str, access: dict[str, Any], json_: Path | None) -> int:
    """Show what is known of each candidate; returns the exit status.

    access: what else Client takes, as AccessOptions.access has it.
    """
    status = asyncio.run(_status(address, access))
    if not status.shadows:
        raise FailedPrecondition(
            f"the orchestrator at {address} shadows no draft; start it with "
            "--shadow-draft NAME=HOST:PORT"
        )
    with progress(console(stderr=True)) as shown:
        task = shown.add_task("predicting", total=RUNS * len(status.shadows))
        found = judged(status, lambda: shown.advance(task))
    for one in found:
        say(one, console())
    if json_ is not None:
        json_.write_text(json.dumps([one.as_json() for one in found], indent=1))
    return STATUS[outcome(found)]


async def _status(address: str, access: dict[str, Any]) -> Status:
    async with asking(address, **access) as client:
        return await client.status()


def say(one: Candidate, to: Console) -> None:
    """The recommendation in words, then what is behind it."""
    advice = one.recommendation
    name, words = plain(one.shadow.name, "bold"), plain(advice.words, COLORS[advice.choice])
    to.print(Text.assemble(name, " ", words))
    for reason in advice.reasons:
        to.print(Padding(plain(reason, "dim"), (0, 0, 0, 2)))
