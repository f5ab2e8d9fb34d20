"""SmolLM2-135M through three real processes, by the command that a person types."""

import asyncio
import contextlib
import json
import os
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from tokenizers import Tokenizer

from paceline.catalog import is_model, model_folder
from paceline.engine.torch.model_folder import resolve_model
from paceline_tools.cli.pull import pull
from tests.servers import eventually

pytestmark = pytest.mark.e2e
MODEL = "smollm2-135m"
PORT = 7570
LOAD_SECONDS = 240.0
STORY = "Tell a very short story about a cyclist in the rain."


@pytest.fixture(scope="module")
def model() -> str:
    """The model's name, once it is here: CI fetches it, a desk without it skips."""
    if not is_model(model_folder(MODEL)):
        if not os.environ.get("CI"):
            pytest.skip(f"{MODEL} is not here; run: paceline pull {MODEL}")
        pull(MODEL)
    return MODEL


def test_text_is_split_as_the_original_splits_it(model: str) -> None:
    tokenizer = Tokenizer.from_file(str(resolve_model(model) / "tokenizer.json"))
    assert tokenizer.encode("\n\n1.").ids == [1116, 33, 30]
    assert tokenizer.encode("a 123 <|im_start|>").ids == [81, 216, 33, 34, 35, 216, 1]


async def paceline(*arguments: str, stdin: str = "") -> tuple[int, str, str]:
    """Run the command to its end: status, standard output, standard error."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "paceline_tools.cli", *arguments),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, err = await process.communicate(stdin.encode())
    return process.returncode or 0, out.decode(), err.decode()


async def generate(prompt: str, *flags: str) -> dict[str, Any]:
    address = f"--address=localhost:{PORT}"
    status, out, err = await paceline("generate", prompt, address, "--json", *flags)
    assert status == 0, err
    answer = json.loads(out)
    assert isinstance(answer, dict)
    return answer


@contextlib.asynccontextmanager
async def up(log: Path, *flags: str, port: int = PORT) -> AsyncIterator[asyncio.subprocess.Process]:
    """`paceline up`, ready."""
    with log.open("wb") as output:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "paceline_tools.cli", "up", f"--port={port}", *flags),
            stderr=output,
        )
    try:

        async def ready() -> bool:
            assert process.returncode is None, log.read_text()
            return "ready at" in log.read_text()

        await eventually(ready, LOAD_SECONDS)
        yield process
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.send_signal(signal.SIGINT)
        await process.wait()


async def test_three_processes_answer_with_the_targets_own_tokens(
    model: str, tmp_path: Path
) -> None:
    log = tmp_path / "up.log"
    async with up(log, f"--target={model}", f"--draft={model}") as process:
        for flags in (["--temperature=0"], ["--temperature=0.8", "--top-p=0.95", "--seed=5"]):
            flags += ["--max-tokens=48"]
            off = await generate(STORY, "--speculation=off", *flags)
            forced = await generate(STORY, "--speculation=force", *flags)
            assert forced["token_ids"] == off["token_ids"]
            assert forced["text"] == off["text"]
            assert forced["fingerprint"] == off["fingerprint"]
            assert len(off["text"].split()) > 10
            assert off["stats"]["rounds"] == 0
            assert forced["stats"]["rounds"] > 5
            # The draft is the target itself, but in 4 bits: it is right more often than not.
            assert forced["stats"]["acceptance_rate"] > 0.5
        assert (await generate("2+2=", "--raw", "--max-tokens=1"))["finish_reason"] == "length"
        status, _, err = await paceline("generate", "x", f"--address=localhost:{PORT}", "--top-p=0")
        assert status == 2
        assert "--top-p is '0'; it must be more than 0 and at most 1" in err
        status, out, _ = await paceline(
            "generate", f"--address=localhost:{PORT}", "--max-tokens=4", stdin="Say hi."
        )
        assert status == 0
        assert out.strip()
        process.send_signal(signal.SIGINT)
        assert await process.wait() == 0
    lines = log.read_text()
    finished = [json.loads(line) for line in lines.splitlines() if "stream fin" in line]
    assert len(finished) == 6
    assert all("rounds" in line and "request_id" in line for line in finished)
    assert STORY not in lines


async def test_up_says_which_server_died_and_why(model: str, tmp_path: Path) -> None:
    log = tmp_path / "up.log"
    async with up(log, f"--target={model}", "--draft=none") as process:
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
        [target] = [
            int(child)
            for child in children
            if "target_server" in Path(f"/proc/{child}/cmdline").read_text()
        ]
        os.kill(target, signal.SIGKILL)
        assert await process.wait() == 1
    assert "the target was killed by SIGKILL" in log.read_text()
    assert not any(Path(f"/proc/{child}").exists() for child in children)


async def test_up_says_why_it_cannot_start(tmp_path: Path) -> None:
    status, _, err = await paceline("up", "--target=nope", "--draft=none", f"--port={PORT}")
    assert status == 2
    assert "no model is called 'nope'; give a folder, a .gguf file, a hub id" in err
