"""`paceline up` as a process: refused in time, ready in time, understood from its lines alone."""

import asyncio
import contextlib
import fcntl
import json
import os
import pty
import re
import signal
import socket
import struct
import subprocess
import sys
import termios
from collections.abc import AsyncIterator, Callable
from functools import partial
from pathlib import Path
from typing import Any

import psutil
import pytest

from paceline.client import Client
from paceline.protocol.generation import GenerateRequest
from paceline_tools.draft_watch import ADVICE
from tests.contract.test_vocabularies import renamed
from tests.processes import children_that_run
from tests.servers import WAIT_SECONDS, eventually
from tests.terminals import ON_TERMINAL
from tests.tiny_models import tiny_model
from tests.web import request, send

COMMAND = [sys.executable, "-m", "paceline_tools.cli", "up"]
SLOW, QUICK = "simulated:step_ms=2", "simulated:step_ms=0.5,acceptance=0.9"
STYLES = re.compile(r"\x1b\[[0-9;?]*[a-zA-Z]")
REFUSED = """
import sys
from paceline_tools.cli.app import main
try:
    main(sys.argv[1:])
finally:
    heavy = {"torch", "transformers", "huggingface_hub"} & sys.modules.keys()
    print(sorted(heavy))
"""


@pytest.fixture
def port() -> int:
    """One with all that lie behind it."""
    while True:
        with contextlib.ExitStack() as stack:
            first = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
            port = int(first.getsockname()[1])
            beside = [port + above + at for above in (100, 200, 300) for at in range(5)]
            try:
                for one in beside:
                    stack.enter_context(socket.create_server(("127.0.0.1", one)))
            except (OSError, OverflowError):
                continue
            return port


class Started:
    """An `up` that runs, and what it has printed."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process
        self.lines: list[str] = []

    async def read(self) -> None:
        assert self.process.stderr is not None
        async for line in self.process.stderr:
            self.lines.append(line.decode().rstrip())

    def events(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.lines]

    async def says(self, holds: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
        """The first line that is so, once it is there."""

        async def there() -> bool:
            assert self.process.returncode is None or any(map(holds, self.events())), self.lines
            return any(map(holds, self.events()))

        await eventually(there)
        return next(filter(holds, self.events()))

    def child(self, module: str) -> psutil.Process:
        return next(iter(children_that_run(module, psutil.Process(self.process.pid))))


@contextlib.asynccontextmanager
async def up(*flags: str, **environment: str) -> AsyncIterator[Started]:
    process = await asyncio.create_subprocess_exec(
        *COMMAND,
        *flags,
        stderr=asyncio.subprocess.PIPE,
        env={**os.environ, **environment},
    )
    started = Started(process)
    reading = asyncio.create_task(started.read())
    children: list[psutil.Process] = []
    try:
        yield started
        with contextlib.suppress(psutil.NoSuchProcess):
            children = psutil.Process(process.pid).children(recursive=True)
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.send_signal(signal.SIGTERM)
        await asyncio.wait_for(process.wait(), WAIT_SECONDS)
        await asyncio.wait_for(reading, WAIT_SECONDS)
    for one in children:
        await eventually(partial(gone, one))


async def runs(started: Started, module: str) -> bool:
    with contextlib.suppress(StopIteration):
        return bool(started.child(module))
    await asyncio.sleep(0)
    return False


async def gone(process: psutil.Process) -> bool:
    return not process.is_running() or process.status() == psutil.STATUS_ZOMBIE


def says_of_itself(event: dict[str, Any]) -> bool:
    return event.get("server") == "up"


@pytest.mark.parametrize(
    ("flags", "status", "said"),
    [
        (["--target=qwen2.5-coder-1.5"], 2, "no model is called 'qwen2.5-coder-1.5'; did you mean"),
        (["--target=./nope"], 2, "'./nope' does not exist"),
        (
            ["--target=simulated:stp_ms=2"],
            2,
            "simulated:stp_ms is no parameter; did you mean step_ms",
        ),
        (["--target=simulated", "--draft=a=simulated:seed=x"], 2, "simulated:seed is 'x'"),
        (["--target=simulated", "--draft=m", "--draft=n"], 2, "two drafts are called 'draft'"),
        (
            ["--target=simulated", "--draft=none", "--device=gpu"],
            2,
            "--device is 'gpu'; it must be cpu, cuda, mps or xpu, or one",
        ),
        (["--kv-tokens=100"], 2, "--kv-tokens is '100'; it must be from 4608 to 1099511627776"),
        (["--port=70000"], 2, "--port is '70000'; it must be from 1 to 65000"),
        (["--host=here:1"], 2, "--host is 'here:1'; it must be a name or an address to listen on"),
        (
            ["--draft-length=20", "--max-draft-length=16"],
            2,
            "--draft-length is 20; it must be at most --max-draft-length, 16",
        ),
        (
            ["--target=simulated", "--draft=none", "--host=nowhere.invalid"],
            2,
            "--host is 'nowhere.invalid'; it must be a name or an address of this machine",
        ),
    ],
)
def test_what_cannot_be_is_refused_without_torch(flags: list[str], status: int, said: str) -> None:
    process = subprocess.run(
        [sys.executable, "-c", REFUSED, "up", *flags, "--log-format=console"],
        capture_output=True,
        text=True,
        timeout=WAIT_SECONDS,
        check=False,
    )
    assert (process.returncode, process.stdout) == (status, "[]\n"), process.stderr
    [line] = process.stderr.splitlines()
    assert line.startswith(f"paceline: {said}") or said in line


async def test_a_port_that_is_taken_is_named_and_the_first_one_serves_on(port: int) -> None:
    flags = (f"--target={SLOW}", "--draft=none", f"--port={port}")
    async with up(*flags) as first:
        await first.says(lambda event: event["event"].startswith("ready at"))
        taken = first.child("orchestrator").pid
        async with up(*flags, "--log-format=json") as second:
            assert await second.process.wait() == 1
        [event] = second.events()
        assert (event["event"], event["server"], event["level"]) == ("stopped", "up", "error")
        assert event["reason"] == (
            f"cannot listen on 127.0.0.1:{port}: an orchestrator of Paceline that serves "
            f"simulated, process {taken} (python orchestrator), does; "
            "end it, or choose another --port"
        ).replace("(python ", f"({psutil.Process(taken).name()} ")
        async with Client(f"127.0.0.1:{port}") as client:
            assert (await client.generate(GenerateRequest("x", max_tokens=3)).result()).text


@pytest.mark.parametrize(
    ("above", "what"),
    [
        (100, "health of the orchestrator"),
        (201, "metrics of the target"),
        (102, "health of the draft a"),
        (300, "the page"),
    ],
)
async def test_a_port_behind_it_that_is_taken_is_another_one(
    port: int, above: int, what: str
) -> None:
    flags = (f"--target={SLOW}", f"--draft=a={QUICK}", "--page")
    with socket.create_server(("127.0.0.1", port + above)):
        async with up(*flags, f"--port={port}") as started:
            await started.says(lambda event: event["event"].startswith("ready at"))
    [moved] = [one for one in started.events() if "taken" in one["event"]]
    begins = f"some ports are taken, so others are used: {what} at "
    assert re.fullmatch(rf"{begins}\d+", moved["event"])


def test_all_that_is_wrong_is_told_at_once() -> None:
    flags = ["--target=./nope", "--draft=simulated:x=1", "--host=nowhere.invalid", "--device=gpu"]
    process = subprocess.run(
        [*COMMAND, *flags], capture_output=True, text=True, timeout=WAIT_SECONDS, check=False
    )
    lines = process.stderr.splitlines()
    assert process.returncode == 2
    assert [line.split()[:2] for line in lines] == [
        ["paceline:", "'./nope'"],
        ["paceline:", "simulated:x"],
        ["paceline:", "--device"],
        ["paceline:", "--host"],
    ]


async def test_its_page_is_where_it_says_and_nowhere_unless_it_is_asked_for(port: int) -> None:
    flags = (f"--target={SLOW}", "--draft=none", f"--port={port}")
    async with up(*flags, "--page") as started:
        said = await started.says(lambda event: event["event"].startswith("page: "))
        assert said["event"] == f"page: http://localhost:{port + 300}/"
        answer = await send(port + 300, request("GET", "/"))
        assert answer.status == 200
        assert "<title>Paceline</title>" in answer.text
    async with up(*flags) as started:
        await started.says(lambda event: event["event"].startswith("ready at"))
        with pytest.raises(ConnectionRefusedError):
            await send(port + 300, request("GET", "/"))


async def test_it_says_so_where_other_machines_may_call(port: int) -> None:
    flags = (f"--target={SLOW}", "--draft=none", f"--port={port}")
    async with up(*flags, "--host=0.0.0.0") as started:
        said = await started.says(lambda event: event["event"].startswith("whoever"))
        assert said["event"] == (
            "whoever reaches this machine may ask for tokens, in plaintext: --host is 0.0.0.0"
        )


async def test_every_line_is_json_and_names_its_server(port: int) -> None:
    flags = (f"--target={SLOW}", f"--draft=small={QUICK}", "--draft=lookup=ngram")
    async with up(*flags, f"--port={port}", PACELINE_TARGET_TREADS="2") as started:
        await started.says(lambda event: event["event"] == "the draft small is used")
        await started.says(lambda event: event["event"] == "the draft lookup is used")
        async with Client(f"127.0.0.1:{port}") as client:
            status = await client.status()
        assert [pool.name for pool in status.draft_pools] == ["small", "lookup"]
    servers = {event["server"] for event in started.events()}
    assert servers == {"up", "orchestrator", "target", "draft small", "draft lookup"}
    said = [event["event"] for event in started.events() if says_of_itself(event)]
    assert said[0] == (
        "the environment has PACELINE_TARGET_TREADS, which is no setting; PACELINE_TARGET_THREADS "
        "may be meant"
    )
    assert said[1] == (
        "starting orchestrator, target, draft small, draft lookup: models load, this may take "
        "minutes"
    )
    assert said[2] == f"ready at localhost:{port}; Ctrl-C stops"
    assert sum("PACELINE_TARGET_TREADS" in line for line in started.lines) == 1


async def test_several_targets_are_replicas_or_several_models(port: int) -> None:
    flags = (f"--target=a={SLOW}", f"--target=b={QUICK}", f"--target=b={QUICK}", "--draft=none")
    async with up(*flags, f"--port={port}", "--kv-tokens=8192") as started:
        await started.says(lambda event: event["event"].startswith("ready at"))
        async with Client(f"127.0.0.1:{port}") as client:

            async def both() -> bool:
                return {model.name for model in await client.models()} == {"a", "b"}

            await eventually(both)
            status = await client.status()
            assert len(status.servers) == 3
        started.child("target_server").kill()  # one of them
        await asyncio.sleep(0)
        async with Client(f"127.0.0.1:{port}") as client:
            assert (
                await client.generate(GenerateRequest("x", model="b", max_tokens=3)).result()
            ).text


async def test_a_draft_that_dies_does_not_end_it_and_is_told_once(port: int) -> None:
    async with up(f"--target={SLOW}", f"--draft={QUICK}", f"--port={port}") as started:
        await eventually(partial(runs, started, "draft_server"))
        started.child("draft_server").kill()
        found = await started.says(lambda event: "the draft is not used" in event["event"])
        assert (found["level"], found["server"]) == ("warning", "up")
        assert "draft was killed by SIGKILL, perhaps as memory ran out" in found["event"]
        async with Client(f"127.0.0.1:{port}") as client:

            async def serves() -> bool:
                return bool(await client.models())

            await eventually(serves)
            assert (await client.generate(GenerateRequest("x", max_tokens=3)).result()).text
    assert sum("is not used" in line for line in started.lines) == 1


async def test_a_draft_of_another_vocabulary_is_not_waited_for(port: int, tmp_path: Path) -> None:
    draft = renamed(tiny_model(tmp_path / "tiny"))
    flags = (f"--target={SLOW}", f"--draft={draft}", f"--port={port}", "--dtype=float64")
    async with up(*flags, "--threads=1") as started:
        await started.says(lambda event: event["event"].startswith("ready at"))
        found = await started.says(lambda event: "the draft is not used" in event["event"])
    assert found["event"].startswith(
        "the draft is not used, the target works without it: its vocabulary is not the target's: "
    )
    assert found["event"].endswith(f"; {ADVICE}")
    said = [event["event"] for event in started.events() if says_of_itself(event)]
    assert said.index(f"ready at localhost:{port}; Ctrl-C stops") < said.index(found["event"])


class Screen:
    """A terminal so many columns wide, and what is on it."""

    def __init__(self, columns: int, *flags: str) -> None:
        self.ours, its = pty.openpty()
        fcntl.ioctl(its, termios.TIOCSWINSZ, struct.pack("HHHH", 40, columns, 0, 0))
        environment = {name: value for name, value in os.environ.items() if name != "COLUMNS"}
        self.process = subprocess.Popen(
            [*ON_TERMINAL, *COMMAND, *flags],
            stdin=its,
            stdout=its,
            stderr=its,
            env={**environment, "TERM": "xterm", "NO_COLOR": "1"},
        )
        os.close(its)
        self.shown = b""

    async def until(self, text: bytes | None) -> str:
        """What is shown, once `text` is; None: to the end."""
        while text is None or text not in self.shown:
            try:
                data = await asyncio.wait_for(
                    asyncio.to_thread(os.read, self.ours, 65536), WAIT_SECONDS
                )
            except OSError:  # the terminal is closed
                break
            if not data:
                break
            self.shown += data
        return STYLES.sub("", self.shown.decode().replace("\r", ""))

    def type(self, text: bytes) -> None:
        os.write(self.ours, text)


@pytest.mark.parametrize("columns", [80, 120])
async def test_a_terminal_shows_lines_for_people(columns: int, port: int) -> None:
    screen = Screen(
        columns, f"--target={SLOW}", f"--draft=a={QUICK}", "--draft=lookup=ngram", f"--port={port}"
    )
    await screen.until(b"the draft a is used")
    await screen.until(b"the draft lookup is used")
    screen.type(b"\x03")
    shown = await screen.until(None)
    assert screen.process.wait(WAIT_SECONDS) == 0
    lines = [line.rstrip() for line in shown.splitlines()]
    assert all(len(line) <= columns for line in lines), shown
    assert f"ready at localhost:{port}; Ctrl-C stops" in lines
    assert any(line.endswith("target       ready") for line in lines), shown
    assert any(
        "orchestrator server found  address=draft a  model=simulated" in line for line in lines
    )
    assert not any(sign in shown for sign in ('"', "{", "Traceback", "unix:"))


@pytest.mark.parametrize("when", [b"\n", b"orchestrator"], ids=["first line", "orchestrator"])
async def test_ctrl_c_while_it_starts_gives_the_prompt_back(when: bytes, port: int) -> None:
    screen = Screen(80, f"--target={SLOW}", f"--draft={QUICK}", f"--port={port}")
    await screen.until(when)
    children = psutil.Process(screen.process.pid).children(recursive=True)
    screen.type(b"\x03")
    shown = await screen.until(None)
    status = screen.process.wait(WAIT_SECONDS)
    assert status == (0 if "ready at" in shown else 130)
    assert "Traceback" not in shown
    assert "Exception" not in shown
    for child in children:
        await eventually(partial(gone, child))
