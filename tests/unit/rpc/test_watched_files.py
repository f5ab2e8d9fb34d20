"""One timer looks at all files; one that fails disturbs none of the others."""

import asyncio
from pathlib import Path

import pytest

from paceline.errors import InvalidArgument
from paceline.rpc import watched_files
from paceline.rpc.watched_files import Reloaded, keep_looking
from tests.servers import eventually


def reloaded(path: Path, said: list[str]) -> Reloaded[str]:
    def read() -> str:
        text = path.read_text()
        if text == "bug":
            raise RuntimeError(text)
        if not text:
            raise InvalidArgument(f"{path} is empty")
        return text

    def taken() -> None:
        said.append("taken")

    return Reloaded("it", (path,), read, taken=taken, refused=said.append)


async def test_files_are_looked_at_though_nobody_uses_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watched_files, "LOOK_SECONDS", 0.01)
    paths = [tmp_path / name for name in ("a", "b")]
    said: list[str] = []
    for path in paths:
        path.write_text("old")
    files = [reloaded(path, said) for path in paths]
    looking = asyncio.create_task(keep_looking(files))

    async def told(*what: str) -> None:
        async def it() -> bool:
            return said == list(what)

        await eventually(it)

    paths[0].write_text("bug")
    paths[1].write_text("")
    await told(f"{paths[1]} is empty")
    assert [one.current for one in files] == ["old", "old"]
    paths[1].write_text("newer")
    await told(f"{paths[1]} is empty", "taken")
    assert (files[1].current, files[1].successful) == ("newer", True)
    looking.cancel()
    await asyncio.gather(looking, return_exceptions=True)
    assert looking.cancelled()


async def test_without_files_no_timer_runs() -> None:
    await asyncio.wait_for(keep_looking(()), 5)
