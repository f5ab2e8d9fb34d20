"""Screens at 80 and at 120 columns: no line is longer, no word is cut."""

from dataclasses import replace

import pytest
from rich.text import Text

from paceline.protocol.session import Load
from paceline.protocol.status import Status, Totals
from paceline_tools.bench.report import TARGET_ONLY, Report
from paceline_tools.bench.samples import Prompt
from paceline_tools.cli.bench import rates_table, tables
from paceline_tools.cli.diagnosis import diagnose
from paceline_tools.cli.doctor import shown
from paceline_tools.cli.simulate import Forecast, forecasts
from paceline_tools.cli.top import HISTORY, view
from paceline_tools.evaluation.tables import all_tables
from paceline_tools.grid import Grid
from tests.screens import WIDTHS, screen
from tests.unit.tools.bench.test_report import sample
from tests.unit.tools.cli.test_diagnosis import DRAFT, TARGET
from tests.unit.tools.cli.test_top import BAD, GOOD, LOST, MACHINE
from tests.unit.tools.evaluation.test_results import EVALUATED

pytestmark = pytest.mark.parametrize("width", WIDTHS)
LONG = "10.123.123.123:7072"
REFUSED = (
    "failed to connect to all addresses; last error: UNKNOWN: ipv6:%5B::1%5D:7070: Failed to "
    "connect to remote host: Connection refused"
)
TOTALS = Totals(200, 5000, 3000000, 400000, 60000, 2000000, 1000000, 750000, waiting=37)


def deployment() -> Status:
    assert TARGET.model is not None
    model = replace(TARGET.model, name="qwen2.5-coder-1.5b")
    target = replace(TARGET, model=model, load=Load(12, 3, 256, 100, 400, 41))
    draft = replace(DRAFT, address=LONG, pool="small", model=target.model)
    lost = replace(LOST, reason=REFUSED, pool="large")
    bad = replace(BAD, reason="it did not pay: 0.93 times the target alone, and it was given up")
    return Status(MACHINE, (target, draft, lost), TOTALS, (GOOD, bad))


def test_status(width: int) -> None:
    text = screen(view(deployment(), TOTALS, 0.0, []), width)
    notes = " ".join(text.split())
    assert "tokens/step: output tokens of a target step." in notes
    assert "waiting: for a target, or for KV there." in notes
    assert "sessions: streams that have KV. queued: for a step." in notes
    assert ("server       address" in text) == (width == 120)
    assert f"draft large 1.2.3.4:7072: {REFUSED[:30]}" in text


def test_top(width: int) -> None:
    screen(view(deployment(), TOTALS, 1.0, [1.0, 2.0] * (HISTORY // 2)), width)


def test_who_waits_is_shown_of_streams_and_of_each_server(width: int) -> None:
    lines = screen(view(deployment(), TOTALS, 0.0, []), width).splitlines()
    if width == 120:  # tables: numbers below their headings
        streams, target = (line.split() for line in lines if " 37 " in line or " 41 " in line)
        assert streams[:2] == ["163", "37"]
        assert target[4:7] == ["12", "41", "3"]
    else:
        assert ["163", "37"] in [line.split()[:2] for line in lines]
        assert "  waiting 41   queued 3   batched 256   KV 25%" in "\n".join(lines)


def test_doctor(width: int) -> None:
    text = screen(shown(list(diagnose(deployment(), "1.0"))), width)
    assert "wrong  draft 1.2.3.4:7072: does not answer the orchestrator" in text
    assert "-> is it running, ready, and is the address right?" in text


def test_bench(width: int) -> None:
    prompts = [Prompt(kind, kind) for kind in ("code", "edit", "chat", "prose")]
    variants = (TARGET_ONLY, "paceline_hybrid_12.5ms", "paceline_model_12.5ms", "generate")
    samples = [sample(variant, one, 2.0) for variant in variants for one in prompts]
    for table in tables(Report(tuple(samples), variants[1])):
        screen(table, width)
    text = screen(rates_table({64: dict.fromkeys(variants, 1234.5)}), width)
    assert "1234.5" in text


def test_simulate(width: int) -> None:
    cost = "faster at 1.05 times the cost"
    one = Forecast(0.7, 1.5, 1.4, 16, 1234.5, 12.3, 0.5, 12.34, 13.45, cost)
    screen(forecasts([one]), width)


def test_evaluate(width: int) -> None:
    for figures in all_tables(EVALUATED):
        screen(Grid(figures.title, figures.headings, figures.rows, figures.note), width)


def test_what_does_not_fit_is_each_row_by_itself(width: int) -> None:
    half = "x" * (width // 2)
    grid = Grid("T", ("name", "one", "other"), [("a", half, half), ("", Text("y z\nw"), "")])
    assert [line.rstrip() for line in screen(grid, width).splitlines()] == [
        "T",
        "a",
        f"  one {half}",
        f"  other {half}",
        "a",
        "  one y z w",
    ]
