"""The command for a day with a GPU, tried on the CPU with a tiny pair."""

import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import numpy as np
import pytest

from benchmarks.gpu import bundle, report
from benchmarks.gpu.bootstrap import ROOT
from benchmarks.gpu.decoding import Streams, load
from benchmarks.gpu.pairs import make_pair
from benchmarks.gpu.plan import plan
from benchmarks.gpu.shapes import SHAPES
from paceline.engine.interfaces import Span
from paceline.engine.sampling.history import History
from paceline.engine.sampling.sampler import pick
from paceline.protocol.sampling import SamplingParams

TINY = SHAPES["tiny"]
PROMPT, TOKENS = 30, 300


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[float, float]]:
    folder = tmp_path_factory.mktemp("pair")
    return folder, make_pair(TINY, (0.6, 0.9), folder, "cpu")


@pytest.mark.parametrize("agreement", [0.6, 0.9])
def test_agreement_is_as_asked(agreement: float, pair: tuple[Path, dict[float, float]]) -> None:
    """Where it was tuned, and in what the target really generates."""
    folder, made = pair
    assert made[agreement] == pytest.approx(agreement, abs=0.02)
    target = load(folder / f"target-{agreement}", "cpu", "float32").runner
    streams = Streams(target, 1, PROMPT, TINY.vocabulary, temperature=1.0)
    for _ in range(TOKENS):
        streams.step()
    [tokens] = streams.tokens
    draft = load(folder / "draft", "cpu", "float32").runner
    span = Span(0, tuple(tokens[:-1]), TOKENS)
    [logits] = draft.forward([(draft.new_cache(), span)])
    rows = zip(np.asarray(logits), range(PROMPT, PROMPT + TOKENS), strict=True)
    same = sum(
        pick(row, SamplingParams(), 0, History(tokens[:at]), ()) == tokens[at] for row, at in rows
    )
    assert same / TOKENS == pytest.approx(agreement, abs=0.09)  # three standard errors


@pytest.mark.slow
def test_the_whole_day_on_the_cpu(tmp_path: Path) -> None:
    figures = tmp_path / "gpu.json"
    command = [sys.executable, "-m", "benchmarks.gpu", "--device", "cpu", "--shapes", "tiny"]
    command += ["--seconds", "270", "--json", str(figures)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads(figures.read_text())
    assert list(found) == [part.key for part in plan(["tiny"], "cpu")]
    assert found["exact:tiny:0.8"]["row_exact"]
    assert found["greedy:tiny:0.8"]["differing"] == 0
    streams = found["serving:tiny:0.8:cpu"]["streams"]
    assert [one["differing"] for one in streams.values()] == [0, 0]
    assert "A day with" in done.stdout


def test_what_does_not_fit_or_has_no_time_left_is_said(tmp_path: Path) -> None:
    figures = tmp_path / "gpu.json"
    command = [sys.executable, "-m", "benchmarks.gpu", "--device", "cpu", "--shapes", "tiny"]
    command += ["--seconds", "0", "--json", str(figures)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    found = json.loads(figures.read_text())
    assert {one["error"] for one in found.values()} == {"not begun: 0 s were left"}
    assert "machine" in done.stdout


def test_the_table_judges_by_the_aims() -> None:
    results: report.Results = {
        "machine": {"device": "NVIDIA Test", "bytes_per_second": 1e12},
        "tests": {"passed": True, "summary": "70 passed"},
        "products:1.5B": {
            "products": {
                "qkv library": {"microseconds": {"4": 2.0, "64": 3.0}, "rows_agree": "some"},
                "out library": {"microseconds": {"4": 1.4, "64": 3.0}, "rows_agree": "some"},
                "qkv tile 16x32x512": {"microseconds": {"4": 2.0}, "rows_agree": "all"},
                "out tile 16x32x512": {"error": "out of resource"},
            }
        },
        "exact:1.5B:0.8": {"row_exact": False, "differing": ["in other steps"]},
        "steps:1.5B:0.8": {
            "weight_bytes": 1e9,
            "step_seconds_1x1": 1.1e-3,
            "step_seconds_8x1": 1.5e-3,
            "transformers_seconds_per_token": 11e-3,
        },
        "serving:1.5B:0.8:cuda": {
            "streams": {
                "1": {
                    "off_tokens_per_second": 500.0,
                    "auto_tokens_per_second": 1300.0,
                    "speedup": 2.6,
                    "differing": 3,
                }
            }
        },
        "greedy:1.5B:0.8": {"error": "not done in 90 s: "},
        "pair:1.5B:0.8": {},
    }
    lines = {what: (seen, aim, judged) for what, seen, aim, judged in report.lines(results, "cuda")}
    assert lines["1.5B: products, library"][0] == "us by rows 4: 3, 64: 6; some"
    assert lines["1.5B: products, tile 16x32x512"][0] == "us by rows ; all / out of resource"
    assert lines["1.5B: row_exact"] == ("no: in other steps", "yes", "SHORT")
    assert lines["1.5B: step of 1 streams"] == (
        "1.10 ms, 1.10 x the memory limit of 1.00 ms",
        "1.15 x",
        "ok",
    )
    assert lines["1.5B: step of 8 streams"][2] == "SHORT"
    assert lines["1.5B: of transformers' generate"] == ("10.00 x", "3 x", "ok")
    serving = "1.5B, 0.8: 1 streams, draft on the GPU"
    assert lines[serving] == ("500 to 1300 tokens/s, 2.60 x", "2.5 x", "ok")
    assert lines[f"{serving}: differing tokens"] == ("3", "0", "SHORT")
    assert lines[f"{serving}, of transformers"] == ("14.30 x", "6 x", "ok")
    assert lines["greedy:1.5B:0.8"] == ("not done in 90 s: ", "", "failed")
    assert lines["pair:1.5B:0.8"] == ("without 'agreement'", "", "failed")


def test_what_the_project_needs_is_carried_or_there() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    needs = [*project["dependencies"], *project["optional-dependencies"]["engine"]]
    names = {re.split(r"[<>=;\[ ]", one)[0] for one in needs}
    assert names <= {*bundle.PACKAGES, *bundle.ALONE, *bundle.THERE}
