"""What is wrong is said before anything is started."""

import asyncio
import importlib.util
import os
import shutil
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from paceline.addresses import split
from paceline.errors import (
    FailedPrecondition,
    InvalidArgument,
    NotFound,
    ResourceExhausted,
    Unavailable,
)
from paceline_tools import start_checks
from paceline_tools.start_checks import (
    Mistakes,
    check_home,
    check_ports,
    check_serving,
    check_writable,
)
from tests import servers


def said(call: Any, *arguments: Any) -> str:
    with pytest.raises(FailedPrecondition) as raised:
        call(*arguments)
    return str(raised.value)


def test_a_folder_of_models_that_is_none_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "file"
    file.touch()
    monkeypatch.setenv("PACELINE_HOME", str(file))
    assert said(check_home) == f"PACELINE_HOME is '{file}'; it must be a folder that can be read"
    monkeypatch.setenv("PACELINE_HOME", str(file / "new"))
    assert said(partial(check_home, writable=True)) == (
        f"PACELINE_HOME is '{file / 'new'}'; it must be a folder that can be written to, and "
        f"{file} is none"
    )
    monkeypatch.setenv("PACELINE_HOME", "")
    monkeypatch.setattr(start_checks, "home", lambda: file)
    assert said(check_home) == f"models are kept in {file}; it must be a folder that can be read"


def test_a_folder_of_models_need_not_be_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "new" / "newer"
    monkeypatch.setenv("PACELINE_HOME", str(folder))
    check_home()
    assert not folder.exists()
    check_home(writable=True)
    assert folder.is_dir()
    monkeypatch.setattr(os, "access", lambda _, rights: not rights & os.W_OK)
    check_home()
    assert said(partial(check_home, writable=True)) == (
        f"PACELINE_HOME is '{folder}'; it must be a folder that can be written to"
    )


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        ("ngrm", "ngram"),
        ("nonee", "none"),
        ("hybird:small:int4", "hybrid:small:int4"),
        ("simulatd:step_ms=1", "simulated:step_ms=1"),
    ],
)
def test_a_misspelt_word_is_told_with_the_nearest(given: str, meant: str) -> None:
    with pytest.raises(NotFound) as raised:
        check_serving(given, ("ngram", "hybrid", "none"))
    assert str(raised.value) == f"no model is called '{given}'; did you mean {meant}?"


def test_a_folder_that_cannot_be_written_to_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    check_writable(tmp_path / "new" / "newer", "x is kept", "Y")
    monkeypatch.setattr(os, "access", lambda *_: False)
    assert said(check_writable, tmp_path / "new", "x is kept", "Y") == (
        f"x is kept into {tmp_path / 'new'}, and {tmp_path} cannot be written to; name another "
        "folder by Y"
    )


def test_models_without_torch_say_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    monkeypatch.setattr(start_checks, "check_model", lambda _, **_named: tmp_path)
    check_serving("simulated")
    assert said(check_serving, "m") == (
        "models need the engine extra, and torch is not installed; run: pip install "
        "'paceline[engine]'"
    )


def test_a_disk_without_room_for_a_converted_file_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gguf = tmp_path / "model.gguf"
    gguf.touch()
    monkeypatch.setenv("PACELINE_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(start_checks, "check_model", lambda _, **_named: gguf)
    monkeypatch.setattr(start_checks, "bf16_bytes", lambda _: 10**9)
    free = shutil.disk_usage(tmp_path)._replace(free=10**8)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: free)
    with pytest.raises(ResourceExhausted) as raised:
        check_serving("m")
    assert str(raised.value).startswith(f"{gguf} needs 1.1 GB at {tmp_path / 'home' / 'models'}")
    assert str(raised.value).endswith("or name a folder on another disk with PACELINE_HOME")


def test_a_hub_model_that_cannot_be_kept_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "file"
    file.touch()
    for variable in ("HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("HF_HOME", str(tmp_path))
    check_serving("org/model")
    monkeypatch.setenv("HF_HOME", str(file))
    assert said(check_serving, "org/model") == (
        f"org/model is downloaded into {file / 'hub'}, and {file} cannot be written to; name "
        "another folder by HF_HOME"
    )


def test_all_mistakes_are_told_at_once_each_in_a_line() -> None:
    mistakes = Mistakes()
    mistakes.tell()
    for error in (Unavailable("a port is taken"), NotFound("no model"), NotFound("no model")):
        with mistakes.noted():
            raise error
    with pytest.raises(InvalidArgument, match=r"^a port is taken\nno model$"):
        mistakes.tell()


def test_one_alone_stays_what_it_is() -> None:
    mistakes = Mistakes()
    with mistakes.noted():
        raise Unavailable("a port is taken")
    with pytest.raises(Unavailable, match=r"^a port is taken$"):
        mistakes.tell()


async def test_a_taken_port_names_which_server_of_ours_has_it() -> None:
    model = "simulated:step_ms=1"
    async with servers.target(model) as target, servers.draft(model) as draft:
        for one, what in ((target, "a target server"), (draft, "a draft server")):
            host, port = split(one.address)
            taken = partial(check_ports, host, {int(port): ""}, "--port")
            with pytest.raises(Unavailable) as raised:
                await asyncio.to_thread(taken)
            assert str(raised.value).startswith(
                f"cannot listen on {one.address}: {what} of Paceline, process {os.getpid()} ("
            )
            assert str(raised.value).endswith("), does; end it, or choose another --port")


@pytest.mark.parametrize("has", ["tokenizer.json", "tokenizer.model", "vocab.json", "a.tiktoken"])
def test_a_model_without_a_tokenizer_is_served_with_a_word(
    has: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(start_checks, "check_model", lambda _, **_named: tmp_path)
    assert start_checks.without_text("./notok") == (
        "./notok has no tokenizer.json: it takes and gives token ids, and no text"
    )
    (tmp_path / has).touch()
    assert start_checks.without_text("./notok") == ""
    assert start_checks.without_text("simulated:step_ms=1") == ""
