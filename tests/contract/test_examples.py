"""The examples, run as a person would, against real servers."""

import asyncio
import importlib.util
import os
import re
import shutil
import sys
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from types import MappingProxyType

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


async def output_of(
    *command: str, cwd: Path = EXAMPLES, extra: Mapping[str, str] = MappingProxyType({})
) -> str:
    process = await asyncio.create_subprocess_exec(
        *command,
        cwd=cwd,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env={**os.environ, "PYTHONWARNINGS": "error", "PYTHONIOENCODING": "utf-8", **extra},
    )
    out, err = await asyncio.wait_for(process.communicate(), SECONDS)
    assert process.returncode == 0, err.decode()
    return out.decode(errors="replace")


EXPECTED = {
    "stream": "tokens were drafted ahead",
    "batch": "Two plus two is",
    "resume": "the same\n",
}


PROGRAMS = {"fastapi_app", "celery_app"}
"""Run by tests of their own, where what they are written for is installed."""


def test_every_example_is_run() -> None:
    assert {path.stem for path in EXAMPLES.glob("*.py")} == set(EXPECTED) | PROGRAMS


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


async def test_a_batch_says_what_a_simulated_target_does_not_give() -> None:
    async with (
        servers.target("simulated:step_ms=1") as target,
        servers.orchestrator([target.address], []) as client,
    ):
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "batch.py", client.address),
            cwd=EXAMPLES,
            stderr=asyncio.subprocess.PIPE,
        )
        _, err = await asyncio.wait_for(process.communicate(), SECONDS)
    assert process.returncode == 1
    assert err.decode() == "logprobs: this target gives no logprobs; leave the field out\n"


async def test_the_notebook_runs_in_a_loop_cell_by_cell(address: str) -> None:
    program = f"""
import ast, asyncio, json, types
cells = json.load(open({str(EXAMPLES / "notebook.ipynb")!r}))["cells"]
async def kernel():
    scope = {{}}
    for cell in cells:
        flags = ast.PyCF_ALLOW_TOP_LEVEL_AWAIT
        code = compile("".join(cell["source"]), cell["id"], "exec", flags)
        if (waits := types.FunctionType(code, scope)()) is not None:
            await waits
asyncio.run(kernel())
"""
    with_address = {"PACELINE_ADDRESS": address}
    assert "Usage(prompt_tokens=" in await output_of(
        sys.executable, "-c", program, extra=with_address
    )


FASTAPI = """
import asyncio, sys
import httpx2 as httpx
from fastapi_app import app, client

BODY = {"messages": [{"role": "user", "content": "Hi"}], "max_tokens": 8}

async def main():
    transport = httpx.ASGITransport(app=app)
    async with httpx.AsyncClient(transport=transport, base_url="http://x", timeout=100) as web:
        answers = await asyncio.gather(*(web.post("/generate", json=BODY) for _ in range(50)))
        print({answer.status_code for answer in answers}, len(answers))
        for wrong in ({"messages": [{"content": "Hi"}]}, {}, {**BODY, "model": "other"}):
            bad = await web.post("/generate", json=wrong)
            print(bad.status_code, bad.json()["detail"])
    await client.close()

for _ in range(2):  # a loop of its own each time
    asyncio.run(main())
"""


async def test_fastapi_serves_fifty_requests_at_once(address: str) -> None:
    needs("fastapi")
    output = await output_of(
        sys.executable, "-W", "ignore", "-c", FASTAPI, extra={"PACELINE_ADDRESS": address}
    )
    assert re.sub("there is .*", "there is", output) == FASTAPI_SAYS * 2


FASTAPI_SAYS = """{200} 50
400 prompt[0] has no role; it must be one, as user or assistant
400 prompt is None; it must be text, token ids or a list of messages
404 model 'other' is not served; there is
"""
FASTAPI_STATUS = """
import asyncio, inspect
import httpx2 as httpx
import fastapi_app
from paceline import errors

class Refusing:
    def generate(self, *args, **fields):
        raise fastapi_app.raised

async def main():
    fastapi_app.client = Refusing()
    transport = httpx.ASGITransport(app=fastapi_app.app)
    async with httpx.AsyncClient(transport=transport, base_url="http://x") as web:
        for name, kind in inspect.getmembers(errors, inspect.isclass):
            if not issubclass(kind, errors.PacelineError):
                continue
            fastapi_app.raised = kind("said")
            answer = await web.post("/generate", json={"messages": []})
            assert answer.json() == {"detail": "said"}
            print(name, answer.status_code, answer.headers.get("Retry-After"))
        for after in (None, 0.2, 7.1):
            fastapi_app.raised = errors.ResourceExhausted("full", after)
            answer = await web.post("/generate", json={"messages": []})
            print(answer.status_code, answer.headers.get("Retry-After"))

asyncio.run(main())
"""
STATUSES = """Aborted 409 None
Cancelled 499 None
DeadlineExceeded 504 None
FailedPrecondition 400 None
Internal 500 None
InvalidArgument 400 None
NotFound 404 None
PacelineError 500 None
ResourceExhausted 429 1
Unauthenticated 500 None
Unavailable 503 None
Unimplemented 501 None
429 None
429 1
429 8
"""


async def test_fastapi_gives_each_error_its_status() -> None:
    needs("fastapi")
    assert await output_of(sys.executable, "-W", "ignore", "-c", FASTAPI_STATUS) == STATUSES


CELERY = """
import subprocess, sys
from celery_app import app, ask
if __name__ == "__main__":
    worker = subprocess.Popen(
        [sys.executable, "-m", "celery", "-A", "celery_app", "worker", "-c", "2", "-P", "prefork"],
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        answers = [ask.delay("Hi") for _ in range(6)]
        found = [answer.get(timeout=100) for answer in answers]
        print(len(found), any(": " in text[:30] and "Error" in text for text in found))
    finally:
        worker.terminate()
        worker.wait()
"""
FILES = """
broker_url = "filesystem://"
result_backend = "file://{folder}"
broker_transport_options = {{
    "data_folder_in": "{folder}", "data_folder_out": "{folder}", "control_folder": "{folder}"}}
"""


async def test_celery_forks_workers_that_ask(address: str, tmp_path: Path) -> None:
    needs("celery")
    (tmp_path / "celeryconfig.py").write_text(FILES.format(folder=tmp_path))
    program = "from celery_app import app\napp.config_from_object('celeryconfig')\n"
    (tmp_path / "started.py").write_text(program)
    source = CELERY.replace("celery_app", "started").replace(
        "from started import app, ask", "from started import app\nfrom celery_app import ask"
    )
    where = {"PACELINE_ADDRESS": address, "PYTHONPATH": paths(tmp_path)}
    where |= {"CELERY_BROKER_URL": "filesystem://", "PYTHONWARNINGS": "ignore"}  # theirs
    (tmp_path / "program.py").write_text(source)
    output = await output_of(sys.executable, "program.py", cwd=tmp_path, extra=where)
    assert output == "6 False\n"


def paths(folder: Path) -> str:
    return os.pathsep.join([str(folder), str(EXAMPLES), str(EXAMPLES.parent)])


def needs(module: str) -> None:
    """What the dev extra has; a desk without it skips, CI does not."""
    if importlib.util.find_spec(module) is None:
        if os.environ.get("CI"):
            pytest.fail(f"{module} is missing")
        pytest.skip(f"needs {module}")
