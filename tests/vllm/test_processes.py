"""Real processes: a target on vLLM behind an orchestrator, and plain vLLM with a draft server."""

import asyncio
import dataclasses
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from paceline.catalog import is_model, model_folder
from paceline.client import Client
from paceline.protocol.generation import GenerateRequest, Speculation
from paceline.protocol.sampling import SamplingParams
from paceline_tools.bench.delayed_wire import delayed
from tests.processes import Process, running, start
from tests.servers import eventually
from tests.vllm.conftest import MODEL, TOKENS, Alone, by_vllm

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(1800)]
START_SECONDS = 900.0
RANKED = "qwen2.5-coder-0.5b"
DRAFT = ("draft_server", "--drafter=ngram")
DRAFTERS = {
    "looks up": ["--drafter=ngram"],
    "is the target in 4 bits": [f"--model={MODEL}", "--threads=1", "--engine=torch"],
}
EAGER = '--vllm-arguments={"enforce_eager": true}'
TARGET = ("target_server", "--engine=vllm", f"--model={MODEL}", "--dtype=float32", EAGER)


@contextmanager
def ended(process: Process) -> Iterator[Process]:
    """Ends it in any case."""
    try:
        yield process
    finally:
        process.popen.send_signal(signal.SIGKILL)
        process.popen.wait()


async def tokens(client: Client, request: GenerateRequest) -> tuple[int, ...]:
    return (await client.generate(request).result()).token_ids


@pytest.mark.parametrize("drafter", DRAFTERS)
async def test_three_processes_have_vllms_own_tokens(
    tmp_path: Path, alone: Alone, drafter: str
) -> None:
    target = start(tmp_path, "target", *TARGET, "--threads=1")
    draft = start(tmp_path, "draft", "draft_server", *DRAFTERS[drafter])
    with ended(target):
        await started(target)
        await check(tmp_path, target, draft, alone)


async def started(target: Process) -> None:
    async def there() -> bool:
        assert target.popen.poll() is None, target.lines()
        return "engine started" in target.lines()

    await eventually(there, START_SECONDS)


async def check(tmp_path: Path, target: Process, draft: Process, alone: Alone) -> None:
    async with running(tmp_path, [target], [draft]) as (client, _):
        [model] = await client.models()
        assert model.equal_up_to_rounding
        eight = asyncio.Semaphore(8)
        said = await asyncio.gather(
            *(greedy(client, prompt, eight) for prompt in alone.prompts), left(client, alone)
        )
        assert said[:-1] == alone.outputs
        assert sum(map(len, alone.outputs)) > 2000
        assert await greedy(client, alone.prompts[0], eight) == alone.outputs[0]
        sampled = {
            speculation: await tokens(
                client,
                GenerateRequest(
                    alone.prompts[0],
                    sampling=SamplingParams(temperature=0.8, top_p=0.95),
                    seed=5,
                    max_tokens=48,
                    ignore_eos=True,
                    speculation=speculation,
                ),
            )
            for speculation in Speculation
        }
        assert len(set(sampled.values())) == 1


async def greedy(
    client: Client, prompt: tuple[int, ...], at_once: asyncio.Semaphore
) -> tuple[int, ...]:
    async with at_once:
        return await tokens(client, forced(prompt))


def forced(prompt: tuple[int, ...]) -> GenerateRequest:
    return GenerateRequest(
        prompt,
        sampling=SamplingParams(temperature=0.0),
        max_tokens=TOKENS,
        ignore_eos=True,
        speculation=Speculation.FORCE,
    )


async def left(client: Client, alone: Alone) -> tuple[int, ...]:
    """Streams of others, one after the other, each cancelled after some tokens."""
    for count, prompt in enumerate(alone.prompts):
        taken = 0
        async with client.generate(forced(prompt[::-1])) as generation:
            async for delta in generation:
                taken += len(delta.tokens)
                if taken > count:
                    break
    return ()


def test_plain_vllm_has_the_drafts_of_a_draft_server(
    tmp_path: Path, folder: Path, alone: Alone
) -> None:
    prompts = alone.prompts[:8]
    with ended(start(tmp_path, "draft", *DRAFT)) as draft:
        said, accepted = by_vllm(folder, prompts, draft.address)
    assert said == alone.outputs[:8]
    assert accepted > 50


def test_plain_vllm_without_its_draft_server_goes_on(folder: Path, alone: Alone) -> None:
    assert by_vllm(folder, alone.prompts[:2], "unix:/nowhere") == (alone.outputs[:2], 0)


async def test_two_ranks_have_the_same_tokens_with_drafts_and_without(
    tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The small model has 9 heads, which two ranks cannot share; another one has 14."""
    if not is_model(model_folder(RANKED)):
        pytest.skip(f"{RANKED} is not here; run: paceline pull {RANKED}")
    monkeypatch.setenv("VLLM_CPU_OMP_THREADS_BIND", "0|1")
    flags = [f"--model={RANKED}" if flag.startswith("--model=") else flag for flag in TARGET]
    target = start(tmp_path, "target", *flags, "--threads=1", "--tensor-parallel-size=2")
    with ended(target):
        await started(target)
        assert "-tp2-pp1-" in target.lines()
        draft = start(tmp_path, "draft", *DRAFT)
        async with running(tmp_path, [target], [draft]) as (client, _):
            for sampling in (SamplingParams(temperature=0.0), SamplingParams(temperature=0.8)):
                request = GenerateRequest(
                    tuple(range(500, 520)), sampling=sampling, seed=3, max_tokens=24
                )
                off, forced = [
                    await tokens(client, dataclasses.replace(request, speculation=speculation))
                    for speculation in (Speculation.OFF, Speculation.FORCE)
                ]
                assert forced == off


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
async def test_a_model_that_drafts_in_a_process_of_its_own_is_mostly_right(
    tmp_path: Path, folder: Path, dtype: str
) -> None:
    """It is the target itself, on our own engine, 20 ms away."""
    flags = [flag for flag in TARGET if not flag.startswith("--dtype")]
    target = start(tmp_path, "target", *flags, f"--dtype={dtype}", "--threads=1")
    draft = start(tmp_path, "draft", "draft_server", f"--model={MODEL}", "--threads=1")
    with ended(target):
        await started(target)
        listen = tmp_path / "wire.sock"
        near = Path(draft.address.removeprefix("unix:"))
        away = dataclasses.replace(draft, address=f"unix:{listen}")
        async with (
            delayed(listen, near, 0.02),
            running(tmp_path, [target], [away]) as (client, _),
        ):
            request = GenerateRequest(
                tuple(range(500, 520)),
                sampling=SamplingParams(temperature=0.0),
                max_tokens=48,
                ignore_eos=True,
            )
            off, forced = [
                await client.generate(
                    dataclasses.replace(request, speculation=speculation)
                ).result()
                for speculation in (Speculation.OFF, Speculation.FORCE)
            ]
        assert forced.finished.statistics.acceptance_rate > 0.5
        if dtype == "float32":
            assert forced.token_ids == off.token_ids
