"""Flags are taken as they were typed, and what cannot be right is named in one line."""

from typing import Any

import pytest
from pydantic_settings import CliApp

from paceline.command_line import command_line
from paceline.protocol.generation import GenerateRequest
from paceline.protocol.sampling import Sampling
from paceline_tools.cli.app import Paceline, main
from paceline_tools.cli.flags import taken_as_typed
from paceline_tools.cli.generate import Generate

TEXTS = [
    "a, b",
    "a,b",
    ",",
    "\n",
    "\r\n",
    " ",
    " a ",
    "\t",
    '"quoted"',
    'a"b',
    "[1, 2]",
    '["a", "b"]',
    "[x",
    '{"a": 1}',
    "null",
    "None",
    "true",
    "1.5",
    "007",
    "\\n",
    "back\\",
    "日本, 語",
    "\x1b[31m",
    ":smile:",
    "$HOME",
    "%s",
    "a=b",
]


def parsed(*arguments: str, monkeypatch: pytest.MonkeyPatch) -> Generate:
    monkeypatch.setattr(Generate, "cli_cmd", lambda _: None)
    arguments = ("generate", *arguments)
    source = command_line(Paceline, taken_as_typed)
    command = CliApp.run(Paceline, cli_args=list(arguments), cli_settings_source=source)
    found: Any = command.generate
    assert isinstance(found, Generate)
    return found


@pytest.mark.parametrize("text", TEXTS)
def test_text_is_taken_as_it_was_typed(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    flags = [text, f"--stop={text}", "--stop", text, f"--model={text}", "--raw"]
    words = [f"--bad-words={text}", "--bad-words", text] if text.strip() else []
    found = parsed(*flags, *words, monkeypatch=monkeypatch)
    assert (found.prompt, found.stop, found.model) == (text, [text, text], text)
    assert found.bad_words == ([text, text] if words else [])


def test_stop_strings_that_are_not_given_are_none(monkeypatch: pytest.MonkeyPatch) -> None:
    assert parsed("x", monkeypatch=monkeypatch).stop == []


def test_what_is_ruled_out_kept_cut_and_scored_is_asked_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    flags = [
        *("--include-stop", "--no-skip-special-tokens", "--bad-words=no", "--bad-words= not"),
        *("--allowed-token-ids=5,6", "--allowed-token-ids", "7", "--truncate-prompt-tokens=-1"),
        *("--max-tokens=0", "--prompt-logprobs=2", "--raw"),
    ]
    asked = parsed("x", *flags, monkeypatch=monkeypatch).request()
    assert asked == GenerateRequest(
        "x",
        max_tokens=0,
        prompt_logprobs=2,
        include_stop=True,
        skip_special_tokens=False,
        bad_words=("no", " not"),
        truncate_prompt_tokens=-1,
        sampling=Sampling(allowed_token_ids=(5, 6, 7)),
    )
    plain = parsed("x", "--raw", monkeypatch=monkeypatch).request()
    assert plain == GenerateRequest("x")


@pytest.mark.parametrize("flags", [[], ["--json"], ["--prompt-logprobs=0"]])
def test_nothing_is_generated_only_where_the_scores_are_shown(
    flags: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["generate", "x", "--max-tokens=0", *flags])
    assert ended.value.code == 2
    said = "--max-tokens is 0; it must be at least 1 without --prompt-logprobs and --json"
    assert capsys.readouterr().err == f"paceline: {said}\n"


def test_a_chat_generates_something(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["chat", "--max-tokens=0"])
    assert ended.value.code == 2
    [line] = capsys.readouterr().err.splitlines()
    assert line.startswith("paceline: --max-tokens is '0'; it must be from 1 to 2147483647")


@pytest.mark.parametrize("command", ["generate", "chat"])
@pytest.mark.parametrize(
    ("flag", "value", "limit"),
    [
        ("seed", str(2**64), "must be from 0 to 18446744073709551615"),
        ("seed", str(2**70), "must be from 0 to 18446744073709551615"),
        ("seed", "-1", "must be from 0 to 18446744073709551615"),
        ("seed", "9" * 5000, "must be a whole number from 0 to 18446744073709551615"),
        ("max-tokens", "-1", "to 2147483647"),
        ("max-tokens", str(10**30), "to 2147483647"),
        ("max-tokens", "1e3", "must be a whole number from "),
        ("temperature", "nan", "must be from 0 to 100"),
        ("temperature", "inf", "must be from 0 to 100"),
        ("temperature", "-inf", "must be from 0 to 100"),
        ("temperature", "-0.5", "must be from 0 to 100"),
        ("temperature", "1e400", "must be from 0 to 100"),
        ("top-p", "nan", "must be a number more than 0 and at most 1"),
        ("top-p", "inf", "must be a number more than 0 and at most 1"),
        ("top-k", "-1", "must be from 0 to 4294967295"),
        ("top-k", str(2**32), "must be from 0 to 4294967295"),
        ("stop", "", "must be a text that is not empty"),
        ("stop", "x" * 257, "must be at most 256 characters"),
        ("stop", "\udcff", "valid UTF-8"),
        ("bad-words", "", "must be a text that is not empty"),
        ("bad-words", " \t", "must be a word, and not blank"),
        ("bad-words", "x" * 257, "must be at most 256 characters"),
        ("allowed-token-ids", "-1", "must be at least 0"),
        ("allowed-token-ids", "x", "must be a whole number"),
        ("truncate-prompt-tokens", "0", "must be from 1 to 2147483647, or -1"),
        ("truncate-prompt-tokens", "-2", "must be from 1 to 2147483647, or -1"),
        ("truncate-prompt-tokens", "x", "must be a whole number"),
        ("model", "\udcff", "valid UTF-8"),
        ("speculation", "maybe", "must be one of off, auto, force"),
        ("address", "", "host or host:port, the port from 1 to 65535 (7070 unless given)"),
        ("address", "ftp://here:7070", "all behind grpc:// or grpcs:// (TLS); or unix:/path"),
        (
            "address",
            "here:70700",
            "host or host:port, the port from 1 to 65535 (7070 unless given)",
        ),
        ("timeout", "0", "must be more than 0"),
        ("timeout", "nan", "must be a number more than 0"),
    ],
)
def test_a_bad_value_ends_in_one_line_with_its_flag_and_limit(
    command: str, flag: str, value: str, limit: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        main([command, *(["x"] if command == "generate" else []), f"--{flag}={value}"])
    assert ended.value.code == 2
    [line] = capsys.readouterr().err.splitlines()
    assert line.startswith(f"paceline: --{flag} is ")
    assert limit in line


@pytest.mark.parametrize(
    "arguments",
    [
        ["generate", "x", "-n", "17"],
        ["generate", "x", "--max-tokens=-1"],
        ["generate", "x", "--prompt-logprobs=21"],
        ["generate", "x", "--logprobs=21"],
        ["chat", "--system=\udc80"],
        ["doctor", "--address=here:there"],
        ["status", "--address=[::1"],
        ["top", "--address="],
        ["up", "--port=65536"],
        ["bench", "--max-tokens=1"],
        ["bench", f"--max-tokens={10**30}"],
        ["bench", "--temperature=nan"],
        ["bench", "--delays=-1"],
        ["bench", "--concurrency=0"],
        ["bench", "--threads=99999999999"],
        ["evaluate", "--temperature=inf"],
        ["evaluate", f"--max-tokens={2**31}"],
        ["evaluate", "--round-trip-ms=nan"],
        ["demo", f"--max-tokens={2**31}"],
        ["simulate", "--step-ms=nan"],
        ["simulate", "--step-ms=inf"],
        ["simulate", "--draft-ms=inf"],
        ["simulate", "--acceptance=2"],
        ["simulate", "--target-price=inf"],
        ["top", "--interval=nan"],
    ],
)
def test_bad_values_are_usage(
    arguments: list[str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(CliApp, "run_subcommand", lambda _: None)
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == 2
    [line] = capsys.readouterr().err.splitlines()
    assert line.startswith("paceline: --")
