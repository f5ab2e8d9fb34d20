"""What doctor says of drafts that were measured on this machine."""

from pathlib import Path

import pytest

from paceline.engine.drafts.measurements import (
    Comparison,
    Conditions,
    Measured,
    notes_file,
    write_notes,
)
from paceline_tools.cli.draft_engines import draft_engines
from paceline_tools.cli.findings import Finding, Level


@pytest.mark.parametrize(
    ("found", "said"),
    [
        (
            Comparison(
                {"torch": Measured((0.02, 0.03), 0.9), "openvino": Measured((0.01, 0.02), 0.9)},
                {"compiled": "it failed while it was measured: it ended with -11"},
            ),
            "openvino: a step of 1 and 4 sessions takes 20.0 and 30.0 ms (90% right) with torch, "
            "10.0 and 20.0 ms (90% right) with openvino; "
            "not compiled: it failed while it was measured: it ended with -11",
        ),
        (
            Comparison({}, {"compiled": "model type 'gemma'", "openvino": "model type 'gemma'"}),
            "torch: not compiled: model type 'gemma'; not openvino: model type 'gemma'",
        ),
    ],
)
def test_each_draft_has_a_line_with_its_engine_and_why_it_is_that(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, found: Comparison, said: str
) -> None:
    monkeypatch.setenv("PACELINE_HOME", str(tmp_path / "home"))
    write_notes(notes_file(tmp_path / "tiny"), {Conditions.here(2): found})
    [finding] = draft_engines()
    assert finding == Finding(Level.OK, "draft", f"tiny, 2 threads, --engine auto takes {said}")
