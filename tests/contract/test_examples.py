"""The examples, run as a person would, against real servers."""

import asyncio
import os
import shutil
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests import servers
from tests.tiny_models import tiny_model

EXAMPLES = Path(__file__).parents[2] / "examples"
SECONDS = 120.0


@pytest.fixture
async def address(tmp_path: Path) -> AsyncIterator[str]:
    folder = tiny_model(tmp_path)
    async with (
        servers.target(folder) as target,
        servers.draft(folder) as draft,
        servers.orchestrator([target.address], [draft.address]) as client,
    ):
        yield client.address


async def output_of(*command: str, cwd: Path = EXAMPLES) -> str:
    process = await asyncio.create_subprocess_exec(
        *command,
        cwd=cwd,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env={**os.environ, "PYTHONWARNINGS": "error", "PYTHONIOENCODING": "utf-8"},
    )
    out, err = await asyncio.wait_for(process.communicate(), SECONDS)
    assert process.returncode == 0, err.decode()
    return out.decode(errors="replace")


EXPECTED = {
    "stream": "tokens were drafted ahead",
    "batch": "Two plus two is",
    "resume": "the same\n",
}


def test_every_example_is_run() -> None:
    assert {path.stem for path in EXAMPLES.glob("*.py")} == set(EXPECTED)


@pytest.mark.parametrize("name", EXPECTED)
async def test_python_example(name: str, address: str) -> None:
    output = await output_of(sys.executable, f"{name}.py", address)
    assert EXPECTED[name] in output
    assert "NOT" not in output


async def test_node_example(address: str, tmp_path: Path) -> None:
    """With a copy of the protos, as somebody has them who has nothing else of ours."""
    npm = shutil.which("npm")
    if npm is None:
        if os.environ.get("CI"):
            pytest.fail("npm is missing")
        pytest.skip("needs npm")
    folder = tmp_path / "examples" / "node"
    folder.mkdir(parents=True)
    for name in ("package.json", "stream.mjs"):
        shutil.copy(EXAMPLES / "node" / name, folder)
    shutil.copytree(EXAMPLES.parent / "protos", tmp_path / "protos")
    await output_of(npm, "install", "--no-audit", "--no-fund", "--silent", cwd=folder)
    output = await output_of("node", "stream.mjs", address, cwd=folder)
    assert "24 tokens, FINISH_REASON_LENGTH" in output or "FINISH_REASON_STOP" in output
