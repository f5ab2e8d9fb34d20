"""Any process may die at any moment: the stream goes on, no token twice, none missing."""

import asyncio
import re
import signal
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from paceline.client import Client
from paceline.errors import Unavailable
from paceline.protocol.constraint import Constraint, ConstraintKind
from paceline.protocol.generation import GenerateRequest, Speculation
from paceline.protocol.sampling import Sampling
from tests.processes import Process, logged, running, start_engine
from tests.servers import eventually
from tests.tiny_models import perturbed, tiny_model

REQUEST = GenerateRequest("nothing is lost", seed=3, max_tokens=500, ignore_eos=True)
SUMS = Constraint(ConstraintKind.REGEX, r"([a-f]{1,9}\+[0-9]{3};){60}")
HELD = GenerateRequest("the sums: ", sampling=Sampling(constraint=SUMS), seed=3, max_tokens=900)
"""Of 360 letters and more: what may come depends on all that came."""


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    target = tiny_model(tmp_path_factory.mktemp("target"))
    return target, perturbed(target, tmp_path_factory.mktemp("draft"), 0.02)


async def tokens_with(
    client: Client, after: int, fault: Callable[[], None], request: GenerateRequest = REQUEST
) -> tuple[int, ...]:
    """Tokens of a request, with a fault once `after` of them have come."""
    tokens: list[int] = []
    struck = False
    async for delta in client.generate(request):
        assert delta.token_index == len(tokens)
        tokens += [token.id for token in delta.tokens]
        if len(tokens) >= after and not struck:
            struck = True
            fault()
    assert struck
    return tuple(tokens)


def two_targets_and_a_draft(
    tmp_path: Path, models: tuple[Path, Path]
) -> tuple[list[Process], Process]:
    targets = [start_engine(tmp_path, name, "target_server", models[0]) for name in ("one", "two")]
    return targets, start_engine(tmp_path, "draft", "draft_server", models[1])


def sessions(target: Process) -> int:
    """Sessions it has opened so far."""
    return target.lines().count('"session opened"')


async def alone(client: Client, request: GenerateRequest = REQUEST) -> tuple[int, ...]:
    off = replace(request, speculation=Speculation.OFF)
    return (await client.generate(off).result()).token_ids


async def test_a_draft_that_is_killed_stopped_or_replaced_changes_nothing(
    tmp_path: Path, models: tuple[Path, Path]
) -> None:
    target = start_engine(tmp_path, "target", "target_server", models[0])
    draft = start_engine(tmp_path, "draft", "draft_server", models[1])
    replacement: list[Process] = []
    async with running(tmp_path, [target], [draft], "--draft-wait-seconds=0.2") as (client, _):
        expected = await alone(client)
        stopped = await tokens_with(client, 40, lambda: draft.signal(signal.SIGSTOP))
        assert stopped == expected
        draft.signal(signal.SIGCONT)
        assert await tokens_with(client, 60, lambda: draft.signal(signal.SIGKILL)) == expected
        draft.popen.wait()
        replacement.append(start_engine(tmp_path, "draft", "draft_server", models[1]))
        try:
            await eventually(lambda: logged(replacement[0], '"ready"'))

            async def speculates() -> bool:
                result = await client.generate(REQUEST).result()
                assert result.token_ids == expected
                return result.finished.statistics.accepted > 0

            await eventually(speculates)
        finally:
            replacement[0].popen.kill()
            replacement[0].popen.wait()


async def test_a_stream_fails_over_when_its_target_is_killed(
    tmp_path: Path, models: tuple[Path, Path]
) -> None:
    targets, draft = two_targets_and_a_draft(tmp_path, models)
    async with running(tmp_path, targets, [draft]) as (client, orchestrator):
        expected = await alone(client)
        assert await tokens_with(client, 100, kill_the_one_in_use(targets)) == expected
        assert "target lost" in orchestrator.lines()
        assert await alone(client) == expected


def kill_the_one_in_use(targets: list[Process]) -> Callable[[], None]:
    """Kills the target that opens a session from now on."""
    before = [sessions(target) for target in targets]

    def kill() -> None:
        now = [sessions(target) for target in targets]
        [used] = [index for index in range(2) if now[index] > before[index]]
        targets[used].signal(signal.SIGKILL)

    return kill


@pytest.mark.parametrize("speculation", [Speculation.OFF, Speculation.FORCE])
async def test_an_output_is_held_to_its_constraint_on_the_next_target_too(
    tmp_path: Path, models: tuple[Path, Path], speculation: Speculation
) -> None:
    targets, draft = two_targets_and_a_draft(tmp_path, models)
    async with running(tmp_path, targets, [draft]) as (client, orchestrator):
        undisturbed = await client.generate(replace(HELD, speculation=Speculation.OFF)).result()
        assert re.fullmatch(SUMS.text, undisturbed.text)
        kill = kill_the_one_in_use(targets)
        asked = replace(HELD, speculation=speculation)
        assert await tokens_with(client, 100, kill, asked) == undisturbed.token_ids
        assert "target lost" in orchestrator.lines()
        assert await alone(client, HELD) == undisturbed.token_ids


async def test_streams_that_share_their_calls_survive_target_and_draft(
    tmp_path: Path, models: tuple[Path, Path]
) -> None:
    targets, draft = two_targets_and_a_draft(tmp_path, models)
    async with running(tmp_path, targets, [draft]) as (client, orchestrator):
        expected = await alone(client)
        others = [asyncio.create_task(client.generate(REQUEST).result()) for _ in range(6)]

        def kill_one_of_each() -> None:
            targets[0].signal(signal.SIGKILL)
            draft.signal(signal.SIGKILL)

        assert await tokens_with(client, 100, kill_one_of_each) == expected
        for result in await asyncio.gather(*others):
            assert result.token_ids == expected
        assert orchestrator.lines().count("target lost") > 1


async def test_a_target_that_drains_finishes_its_streams_and_takes_no_more(
    tmp_path: Path, models: tuple[Path, Path]
) -> None:
    target = start_engine(tmp_path, "target", "target_server", models[0])
    async with running(tmp_path, [target], []) as (client, _):
        expected = await alone(client)
        found = await tokens_with(client, 20, lambda: target.signal(signal.SIGTERM))
        assert found == expected
        assert await asyncio.to_thread(target.popen.wait, 60) == 0
        assert '"draining"' in target.lines()
        with pytest.raises(Unavailable):
            await client.generate(REQUEST).result()
