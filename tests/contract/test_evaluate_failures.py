"""paceline evaluate where something fails: told as it is, and never a verdict on a draft."""

import json
import socket
from pathlib import Path
from typing import Any

import psutil
import pytest

from paceline_tools.bench.variants import Served
from paceline_tools.cli.app import main
from paceline_tools.evaluation.recorder import DraftRecorder
from paceline_tools.evaluation.watched import in_a_line
from tests.processes import children_that_run

TARGET, DRAFT = "simulated:step_ms=1", "simulated:step_ms=1,acceptance=0.9"
FLAGS = (f"--target={TARGET}", f"--candidate=a={DRAFT}", "--max-tokens=8", "--port=7591")


def evaluate(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], *flags: str
) -> tuple[int, dict[str, Any], str]:
    """The status, the figures, and what is said on standard error."""
    prompts, figures = tmp_path / "prompts.txt", tmp_path / "figures.json"
    prompts.write_text("one\ntwo\n")
    with pytest.raises(SystemExit) as ended:
        main(["evaluate", f"--prompts={prompts}", f"--json={figures}", *FLAGS, *flags])
    found = json.loads(figures.read_text()) if figures.exists() else {}
    return int(ended.value.code or 0), found, capsys.readouterr().err


def kill(module: str) -> None:
    """End the server that runs a module, as the kernel does where memory is short."""
    for child in children_that_run(module, psutil.Process()):
        child.kill()


@pytest.mark.parametrize(
    ("flag", "message"),
    [
        ("--target=/nowhere/x", "--target: '/nowhere/x' does not exist: there is no folder"),
        ("--candidate=b=/nowhere/x", "--candidate b: '/nowhere/x' does not exist"),
        ("--candidate=qwen", "--candidate qwen: no model is called 'qwen'"),
        (
            "--candidate=b=simulated:fast=1",
            "--candidate b: simulated:fast is no parameter;",
        ),
    ],
)
def test_names_are_checked_first(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], flag: str, message: str
) -> None:
    status, figures, err = evaluate(tmp_path, capsys, flag)
    assert (status, figures) == (2, {})
    [line] = err.splitlines()
    assert line.startswith(f"paceline: {message}")


def test_a_port_that_is_taken_is_named_first(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        status, figures, err = evaluate(tmp_path, capsys, f"--port={port}")
    assert (status, figures) == (1, {})
    [line] = err.splitlines()
    assert line.startswith(f"paceline: cannot listen on 127.0.0.1:{port}: ")
    assert line.endswith("choose another --port")


def test_a_draft_that_is_killed_is_no_verdict(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    record = DraftRecorder.record

    async def killed(self: DraftRecorder, output: Any) -> Any:
        kill("draft_server")
        return await record(self, output)

    monkeypatch.setattr(DraftRecorder, "record", killed)
    status, figures, err = evaluate(tmp_path, capsys)
    assert status == 4
    [found] = figures["candidates"]
    assert found["recommendation"]["choice"] == "not tried"
    assert found["failure"].startswith("the draft was killed by SIGKILL")
    assert "Traceback" not in err


def test_a_draft_that_is_killed_while_it_is_measured_is_no_verdict(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    run = Served.run

    async def killed(self: Served, prompt: Any, max_tokens: int) -> Any:
        found = await run(self, prompt, max_tokens)
        kill("draft_server")
        return found

    monkeypatch.setattr(Served, "run", killed)
    status, figures, _ = evaluate(tmp_path, capsys, "--no-alone")
    assert status == 4
    assert figures["candidates"][0]["failure"].startswith("the draft was killed by SIGKILL")


def test_a_target_that_is_killed_ends_it_all(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    record = DraftRecorder.record

    async def killed(self: DraftRecorder, output: Any) -> Any:
        kill("target_server")
        return await record(self, output)

    monkeypatch.setattr(DraftRecorder, "record", killed)
    status, figures, err = evaluate(tmp_path, capsys, "--no-alone")
    assert (status, figures) == (1, {})
    assert err.splitlines()[-1].startswith("paceline: the target was killed by SIGKILL")


def test_a_server_that_does_not_start_says_why_in_a_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("paceline_tools.cli.evaluate.check_models", lambda _: None)
    status, figures, _ = evaluate(tmp_path, capsys, "--candidate=b=simulated:nonsense=1")
    assert status == 4
    one, other = figures["candidates"]
    assert one["recommendation"]["choice"] != "not tried"
    assert other["failure"].startswith("the draft stopped: ")
    assert "nonsense" in other["failure"]
    assert "\n" not in other["failure"]


def test_of_a_log_the_reason_is_told() -> None:
    log = json.dumps({"event": "stopped", "reason": "no memory"})
    assert in_a_line(f"the draft exited with 1; its last words:\n  {{}}\n  {log}\n  x") == (
        "the draft exited with 1: no memory"
    )
    assert in_a_line("not ready after 600 s") == "not ready after 600 s"
