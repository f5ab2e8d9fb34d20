"""Whose token it is, from environment and file."""

import re
from pathlib import Path

import pytest
import structlog

from paceline.errors import InvalidArgument, Unauthenticated
from paceline.rpc.caller import Caller, Limits
from paceline.rpc.tokens import CallerTokens

ALICE, ALICE_NEXT, BOB = "a" * 16, "a" * 15 + "b", "b" * 32
FILE = f"""
[alice]
tokens = ["{ALICE}", "{ALICE_NEXT}"]
streams = 8
tokens_per_minute = 1_000

["bob builds"]
tokens = ["{BOB}"]
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "tokens.toml"
    path.write_text(FILE)
    return path


def test_each_token_is_its_callers(path: Path) -> None:
    known = CallerTokens(path, {"carol": "c" * 16})
    alice = Caller("alice", proven=True, limits=Limits(streams=8, tokens_per_minute=1000))
    assert known.caller(f"Bearer {ALICE}") == known.caller(f"bearer  {ALICE_NEXT} ") == alice
    assert known.caller(f"Bearer {BOB}") == Caller("bob builds", proven=True)
    assert known.caller(f"Bearer {'c' * 16}") == Caller("carol", proven=True)


@pytest.mark.parametrize("header", [None, "", b""])
def test_without_a_token_it_says_what_to_send(path: Path, header: str | bytes | None) -> None:
    with pytest.raises(Unauthenticated) as raised:
        CallerTokens(path).caller(header)
    assert str(raised.value) == (
        "metadata authorization is missing; it must be 'Bearer TOKEN', of a token known here "
        "(--token or PACELINE_TOKEN of a command, token= in Python)"
    )


@pytest.mark.parametrize(
    "header",
    [
        f"Basic {ALICE}",
        ALICE,
        "Bearer",
        "Bearer ",
        f"Bearer {ALICE}x",
        b"Bearer \xff",
        "Bearer \xff",
    ],
)
def test_a_wrong_token_is_refused_and_not_quoted(path: Path, header: str | bytes) -> None:
    with pytest.raises(Unauthenticated) as raised:
        CallerTokens(path).caller(header)
    assert str(raised.value) == (
        "the token is not known here; metadata authorization must be 'Bearer TOKEN' "
        "(--token or PACELINE_TOKEN of a command, token= in Python)"
    )


def test_a_file_that_changed_is_taken_and_a_wrong_one_is_not(path: Path) -> None:
    known = CallerTokens(path)
    path.write_text(f"[alice]\ntokens = ['{ALICE_NEXT}']")
    known.files.look()
    assert known.caller(f"Bearer {ALICE_NEXT}").limits == Limits()
    with pytest.raises(Unauthenticated):
        known.caller(f"Bearer {ALICE}")
    assert known.files.successful


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[alice", "{path} is not TOML: (at "),
        ("", "{path} has no caller; it must have one at least, as [alice] with tokens = "),
        (" \n\t\n", "{path} has no caller; it must have one at least"),
        ("# alice will come back\n", "{path} has no caller; it must have one at least"),
        (None, "{path} cannot be read: "),
        ("[carol]\ntokens = ['" + "d" * 16 + "']", "{path} has carol, as has --tokens (PACELINE_"),
    ],
)
def test_a_file_that_turns_wrong_is_told_once_and_locks_nobody_out(
    path: Path, text: str | None, said: str
) -> None:
    known = CallerTokens(path, {"carol": "c" * 16})
    path.unlink() if text is None else path.write_text(text)
    with structlog.testing.capture_logs() as lines:
        for _ in range(3):
            known.files.look()
    [line] = lines
    assert (line["event"], line["log_level"]) == ("tokens not taken", "error")
    assert line["reason"].startswith(said.format(path=path))
    assert not known.files.successful
    assert known.caller(f"Bearer {ALICE}").name == "alice"
    assert known.caller(f"Bearer {'c' * 16}").name == "carol"
    with pytest.raises(InvalidArgument, match=re.escape(said.format(path=path))):
        CallerTokens(path, {"carol": "c" * 16})
    path.write_text(FILE)
    known.files.look()
    assert known.files.successful


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (f"[alice]\ntokens = ['{ALICE}", "is not TOML: (at "),
        ("[alice]\ntokens = []", "alice.tokens: list should have at least 1 item"),
        ("[alice]\nstreams = 3", "alice.tokens: field required"),
        (f"[alice]\ntokens = ['{ALICE}']\nstreams = 0", "alice.streams: "),
        (
            f"[alice]\ntokens = ['{ALICE}']\nstream = 3",
            "alice.stream is no key; it must be one of tokens, streams, requests_per_minute, "
            "tokens_per_minute; did you mean streams?",
        ),
        (f"[alice]\ntokns = ['{ALICE}']", "tokens_per_minute; did you mean tokens?"),
        ("alice = 3", "alice: "),
        ("[alice]\ntokens = ['short']", "a token of alice must be at least 16 printable ASCII"),
        (
            f"[alice]\ntokens = ['{ALICE}']\n[bob]\ntokens = ['{ALICE}']",
            "alice and bob have one token",
        ),
        (f"[alice]\ntokens = ['{ALICE}', '{ALICE}']", "alice has one token twice"),
        (
            f"[alice]\ntokens = ['{ALICE}']\n[alice]\ntokens = ['{BOB}']",
            "is not TOML: a table is there twice (at line 3",
        ),
        ("[alice]\ntokens = ['']", "a token of alice must be at least 16 printable ASCII"),
        (
            f"[alice]\ntokens = ['{' ' * 16}']",
            "a token of alice must not begin or end with a space",
        ),
        (f"[alice]\ntokens = ['{ALICE} ']", "a token of alice must not begin or end with a space"),
    ],
)
def test_a_wrong_file_is_refused_without_its_tokens(path: Path, text: str, said: str) -> None:
    path.write_text(text)
    with pytest.raises(InvalidArgument) as raised:
        CallerTokens(path)
    assert said in str(raised.value)
    assert ALICE not in str(raised.value)
    assert "\n" not in str(raised.value)


def test_nothing_kept_is_a_token(path: Path) -> None:
    known = CallerTokens(path, {"carol": "c" * 16})
    assert ALICE not in repr(vars(known))
    kept = [*vars(known._given)["_of"], *vars(known.files.current)["_of"]]
    assert not any(token.encode() in kept for token in (ALICE, BOB, "c" * 16))
