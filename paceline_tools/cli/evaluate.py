"""paceline evaluate: choose a draft before it sees traffic."""

import asyncio
import json
import tempfile
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pydantic import Field
from rich.console import Console
from rich.padding import Padding
from rich.progress import Progress
from rich.text import Text

from paceline import __version__
from paceline.catalog import DEFAULT_DRAFT, DEFAULT_TARGET
from paceline.log import configure
from paceline_tools.cli.access import AccessOptions
from paceline_tools.cli.as_typed import as_typed
from paceline_tools.cli.checks import check_matplotlib, check_models
from paceline_tools.cli.evaluate_live import evaluate_live
from paceline_tools.cli.flags import Finite
from paceline_tools.cli.options import FigureOptions, ModelOptions, PromptOptions
from paceline_tools.evaluation.about import machine
from paceline_tools.evaluation.candidates import GRAMMAR, parse_candidates
from paceline_tools.evaluation.driver import Task, gather
from paceline_tools.evaluation.prediction import REPLAYS, Deployment, Prediction, predict
from paceline_tools.evaluation.recommendation import Use
from paceline_tools.evaluation.recording import Recording, Recordings, load_recordings
from paceline_tools.evaluation.results import HERE, Evaluated, Gathered, evaluated, winner
from paceline_tools.evaluation.setting import Setting
from paceline_tools.evaluation.tables import all_tables
from paceline_tools.grid import Grid
from paceline_tools.progress import progress
from paceline_tools.start_checks import check_ports
from paceline_tools.terminal import check_outputs, console, plain

DO_NOT_USE_STATUS, NO_VERDICT_STATUS = 3, 4
SETTING_WIDTH = 76
_COLORS = {
    Use.USE: "green",
    Use.USE_FOR_SOME: "yellow",
    Use.DO_NOT_USE: "red",
    Use.NOT_TRIED: "magenta",
    Use.CANNOT_TELL: "magenta",
}


class Evaluate(AccessOptions, FigureOptions, ModelOptions, PromptOptions):
    """Say which drafts to use for a target, and for what: recorded, predicted and measured.

    Exits with 0 when one is worth using, with 3 when none is, with 4 when there is no verdict on
    one that could change that, and with 1 when a token differs.
    """

    target: str = Field(DEFAULT_TARGET, description="Target model, as for up.")
    candidate: list[str] = Field(
        [DEFAULT_DRAFT, f"hybrid:{DEFAULT_DRAFT}", "ngram"],
        description=f"What may draft: {GRAMMAR}. The model as for up; weights bf16, int8 or int4, "
        "which is the default. Once for each candidate.",
    )
    round_trip_ms: Finite | None = Field(
        None, ge=0, description="Round trip to the draft where it is to run. Unless given: as here."
    )
    shared: bool | None = Field(
        None,
        description="Draft and target will share their cores, or will not. Unless given: as here.",
    )
    measure: bool = Field(True, description="Measure speculation too, off and auto in turn.")
    alone: bool = Field(True, description="Serve each model alone, too, and compare.")
    port: int = Field(7890, ge=1, le=65535, description="Port of the orchestrator.")
    recording: Path | None = Field(
        None, description="Write what was recorded there, as JSON. Unless given: nowhere."
    )
    replay: Path | None = Field(
        None,
        description="Predict from such a file alone: no servers, no candidates. Unless given: "
        "servers are started.",
    )
    live: bool = Field(
        False,
        description="Judge the drafts that a running orchestrator shadows on its traffic, by its "
        "--shadow-draft; no servers are started, and of the other flags address, ca, certificate, "
        "key, token and json count.",
    )
    page: Path | None = Field(
        None, description="Write a page to show there, as HTML. Unless given: nowhere."
    )

    def cli_cmd(self) -> None:
        """Run the command."""
        progress = console(stderr=True)
        configure("error", "console")
        self._check_outputs()
        if self.live:
            raise SystemExit(evaluate_live(self.address, self.access(), self.json_))
        gathered = self._replayed() if self.replay else self._gathered(self._task(), progress)
        if self.recording:
            _save(gathered, self.recording)
        found = self._evaluate(gathered, progress)
        self._show(found, console())
        if any(one.gathered.differing_tokens for one in found):
            raise SystemExit(1)
        if any(one.gathered.failure for one in found):
            raise SystemExit(NO_VERDICT_STATUS)
        if not any(one.recommendation.use for one in found):
            unsure = any(one.recommendation.choice is Use.CANNOT_TELL for one in found)
            raise SystemExit(NO_VERDICT_STATUS if unsure else DO_NOT_USE_STATUS)

    def _check_outputs(self) -> None:
        """Say what cannot be written before the work, not behind it."""
        names = ("recording", "json_", "plot", "page")
        check_outputs({f"--{name.rstrip('_')}": getattr(self, name) for name in names})
        check_matplotlib({"--plot": self.plot, "--page": self.page})

    def _task(self) -> Task:
        """What to do; names, files and the port are checked before any of it is done."""
        task = Task(
            target=self.target,
            candidates=tuple(parse_candidates(self.candidate)),
            prompts=tuple(self.chosen),
            max_tokens=self.max_tokens,
            temperature=self.temperature,
            threads=self.threads,
            dtype=self.dtype,
            port=self.port,
            measure=self.measure,
            alone=self.alone,
        )
        candidates = {f"--candidate {one.name}": one.model for one in task.candidates if one.model}
        check_models({"--target": task.target, **candidates})
        check_ports("127.0.0.1", {task.port: ""}, "--port")
        return task

    def _gathered(self, task: Task, console: Console) -> list[Gathered]:
        with tempfile.TemporaryDirectory(prefix="paceline-") as sockets:
            return asyncio.run(gather(task, Path(sockets), console))

    def _replayed(self) -> list[Gathered]:
        recordings = load_recordings(self.replay) if self.replay else ()
        return [Gathered(one.draft_candidate, recording=one) for one in recordings]

    def _deployments(self, recording: Recording) -> dict[str, Deployment]:
        """Where to predict for: here, and where the draft is to run if that is elsewhere."""
        deployments = {HERE: Deployment(recording.shares_host)}
        if self.shared is not None or self.round_trip_ms is not None:
            shared = recording.shares_host if self.shared is None else self.shared
            seconds = None if self.round_trip_ms is None else self.round_trip_ms / 1e3
            distance = "" if seconds is None else f", {self.round_trip_ms:g} ms"
            name = f"{'shared' if shared else 'separate'}{distance}"
            deployments[name] = Deployment(shared, seconds)
        return deployments

    def _evaluate(self, gathered: list[Gathered], console: Console) -> list[Evaluated]:
        with progress(console) as shown:
            return [evaluated(one, self._predict(one, shown)) for one in gathered]

    def _predict(
        self, gathered: Gathered, progress: Progress
    ) -> dict[str, tuple[Deployment, Prediction]]:
        recording = gathered.recording
        if recording is None:
            return {}
        deployments = self._deployments(recording)
        what = f"{gathered.candidate.name}: replaying"
        task = progress.add_task(what, total=REPLAYS * len(deployments))
        return {
            name: (deployment, predict(recording, deployment, lambda: progress.advance(task)))
            for name, deployment in deployments.items()
        }

    def _show(self, found: list[Evaluated], console: Console) -> None:
        best = winner(found)
        for one in found:
            _say(one, console, best)
        for figures in all_tables(found):
            console.print()
            console.print(Grid(figures.title, figures.headings, figures.rows, figures.note))
        if self.json_:
            self.json_.write_text(json.dumps(self._as_json(found), indent=1))
        if self.plot:
            from paceline_tools.evaluation.plot import draw  # matplotlib, needed here only

            draw(found, self.plot)
        if self.page:
            from paceline_tools.evaluation.page import write_page  # matplotlib, needed here only

            write_page(found, self._about(found), self.page)

    def _about(self, found: Sequence[Evaluated]) -> dict[str, str]:
        recordings = [one.gathered.recording for one in found if one.gathered.recording]
        outputs = recordings[0].outputs if recordings else ()
        return {
            "target": recordings[0].target if recordings else self.target,
            "prompts": str(len(outputs)),
            "output tokens": str(sum(len(output.draft_tokens) for output in outputs)),
            "temperature": f"{self.temperature:g}",
            "threads": str(self.threads),
            "numbers": self.dtype,
            "machine": machine(),
            "date": f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC",
            "paceline": __version__,
            "command": as_typed("evaluate", self),
        }

    def _as_json(self, found: Sequence[Evaluated]) -> dict[str, Any]:
        return {"about": self._about(found), "candidates": [one.as_json() for one in found]}


def _save(gathered: Sequence[Gathered], path: Path) -> None:
    recordings = tuple(one.recording for one in gathered if one.recording)
    if recordings:
        Recordings(recordings=recordings).save(path)


def _say(one: Evaluated, console: Console, best: Evaluated | None) -> None:
    """The recommendation in words, then what is behind it; of the best how to serve so."""
    name = plain(one.candidate.name, "bold")
    words = plain(one.recommendation.words, _COLORS[one.recommendation.choice])
    console.print(Text.assemble(name, " ", words))
    reasons = [plain(reason, "dim") for reason in one.recommendation.reasons]
    if one.gathered.recording is not None and one.gathered.problem:
        reasons.append(plain(one.gathered.problem, "red"))
    for reason in reasons:
        console.print(Padding(reason, (0, 0, 0, 2)))
    if one is best and one.setting is not None:
        console.print(plain(f"  serve so:\n{shown(one.setting)}"), soft_wrap=True)
    elif one.recommendation.use:
        console.print(plain(f"  how to serve so: --candidate {one.candidate.name} alone shows it"))


def shown(setting: Setting) -> str:
    """A setting, to be copied: the command, and the variables of servers started apart."""
    lines = (
        *setting.in_lines(SETTING_WIDTH).splitlines(),
        "or, of servers apart:",
        *setting.variables,
    )
    return "\n".join(f"    {line}" for line in lines)
