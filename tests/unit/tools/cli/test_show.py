"""What a person and a script see of an output."""

import dataclasses
import io
import json
import tomllib
from pathlib import Path

import pytest
from rich.console import Console

from paceline.client import Choice, Result
from paceline.protocol.constraint import Constraint, ConstraintKind
from paceline.protocol.generation import (
    Delta,
    Finished,
    FinishReason,
    Overhead,
    Started,
    Statistics,
    Token,
    Usage,
)
from paceline.protocol.sampling import SamplingParams
from paceline.protocol.verdict import Origin, TokenLogprob, TokenLogprobs
from paceline_tools.cli.app import main
from paceline_tools.cli.show import Streamed, as_json

PYPROJECT = Path(__file__).parents[4] / "pyproject.toml"
STATISTICS = Statistics(
    2, 9, 8, 6, (2, 2, 1, 1), (2, 2, 2, 2), 1, 0.25, 2.0, 0.0015, Overhead(0.001, 0.0, 0.0005)
)
RESULT = Result(
    Started("id", "tiny", "print", 7, (1, 2), 8),
    (
        Choice(
            (Delta(0, (Token(5, Origin.ACCEPTED, "a"), Token(6, Origin.RECOVERED, "[b]"))),),
            Finished(FinishReason.STOP, Usage(2, 9, 0), STATISTICS),
        ),
    ),
)


def test_the_sampling_that_holds_is_shown() -> None:
    started = dataclasses.replace(RESULT.started, sampling=SamplingParams(0.6, 20))
    shown = as_json(dataclasses.replace(RESULT, started=started))["sampling"]
    assert (shown["temperature"], shown["top_k"], shown["top_p"]) == (0.6, 20, 1.0)


@pytest.mark.parametrize("kind", ConstraintKind)
def test_a_constraint_is_shown_by_the_name_of_its_kind(kind: ConstraintKind) -> None:
    constraint = Constraint(kind, "x", ("yes", "no"))
    started = dataclasses.replace(RESULT.started, sampling=SamplingParams(constraint=constraint))
    shown = json.loads(json.dumps(as_json(dataclasses.replace(RESULT, started=started))))
    assert shown["sampling"]["constraint"] == {
        "kind": kind.value,
        "text": "x",
        "options": ["yes", "no"],
    }


def test_the_scores_of_a_prompt_are_shown_with_its_tokens() -> None:
    scores = (TokenLogprobs(-0.5, (TokenLogprob(3, -0.25, "c"),)),)
    shown = as_json(dataclasses.replace(RESULT, prompt_logprobs=scores))
    assert shown["prompt_token_ids"] == [1, 2]
    best = {"token_id": 3, "logprob": -0.25, "text": "c"}
    assert shown["prompt_logprobs"] == [{"logprob": -0.5, "top": (best,)}]


def test_one_object_has_all_that_scripts_need() -> None:
    assert json.loads(json.dumps(as_json(RESULT))) == {
        "text": "a[b]",
        "token_ids": [5, 6],
        "finish_reason": "stop",
        "seed": 7,
        "model": "tiny",
        "fingerprint": "print",
        "usage": {
            "prompt_tokens": 2,
            "output_tokens": 9,
            "cached_tokens": 0,
            "speculated_tokens": 0,
        },
        "stats": {
            "rounds": 2,
            "drafted": 9,
            "verified": 8,
            "accepted": 6,
            "acceptance_rate": 0.75,
            "accepted_by_position": [2, 2, 1, 1],
            "verified_by_position": [2, 2, 2, 2],
            "mean_accepted": 3.0,
            "branch_verified": 0,
            "branch_accepted": 0,
            "target_only_steps": 1,
            "ttft_ms": 250.0,
            "tokens_per_s": 4.0,
            "overhead_ms": 1.5,
            "overhead_parts_ms": {
                "sampling": 1.0,
                "queue": 0.0,
                "wire": 0.5,
                "codec": 0.0,
                "emit": 0.0,
            },
        },
    }


def test_tokens_are_coloured_by_origin_on_a_terminal_and_plain_elsewhere() -> None:
    for terminal, expected in ((True, "\x1b[32ma\x1b[0m\x1b[33m[b]\x1b[0m"), (False, "a[b]")):
        output = io.StringIO()
        console = Console(
            file=output, force_terminal=terminal, color_system="standard" if terminal else None
        )
        Streamed(console).show(RESULT.deltas[0])
        assert output.getvalue() == expected


def test_help_lists_the_commands_and_version_the_version(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(SystemExit) as ended:
        main([])
    assert ended.value.code == 0
    commands = "pull up generate chat doctor status top bench evaluate simulate demo"
    lines = capsys.readouterr().out.splitlines()
    found = [line.split()[0] for line in lines if line.startswith("    ")]
    assert found == commands.split()
    with pytest.raises(SystemExit) as ended:
        main(["--version"])
    assert ended.value.code == 0
    version = tomllib.loads(PYPROJECT.read_text())["project"]["version"]
    assert capsys.readouterr().out == f"paceline {version}\n"


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        (["generate", "x", "--address=unix:/nowhere"], 1, "paceline:"),
        (["generate", "", "--address=unix:/nowhere"], 2, "PROMPT is ''; it must be a text"),
        (["generate", "x", "--top-k=-1"], 2, "top-k is '-1'"),
        (["pull", "nope"], 2, "no model is called 'nope'; give a folder, a .gguf file, a hub id"),
        (["up", "--draft-length=99"], 2, "draft-length is '99'"),
    ],
)
def test_what_goes_wrong_is_one_line_and_a_status(
    arguments: list[str], status: int, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == status
    errors = capsys.readouterr().err
    assert message in errors
    assert "Traceback" not in errors
