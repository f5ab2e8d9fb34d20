"""A candidate draft is measured on live traffic, and no output and no pacer knows of it."""

import asyncio
from dataclasses import astuple
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry

from orchestrator.backends import shadow, shadow_walk
from paceline.client import Client
from paceline.protocol.generation import GenerateRequest, Speculation
from paceline.protocol.sampling import SamplingParams
from paceline.protocol.status import Shadow
from paceline_tools.evaluation.live import judged
from tests import servers
from tests.contract.test_vocabularies import models, plain, renamed, turned

TARGET = "simulated:step_ms=1"
TOKENS = 100
RIGHT = 0.7


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shadow, "ROUNDS_PER_SECOND", 10_000.0)
    monkeypatch.setattr(shadow, "RETRY_SECONDS", 0.0)
    monkeypatch.setattr(shadow, "QUEUED", 1024)


async def outputs(
    client: Client,
    count: int,
    tokens: int = TOKENS,
    *,
    temperature: float = 0.0,
    speculation: Speculation = Speculation.AUTO,
) -> list[tuple[int, ...]]:
    found = []
    for index in range(count):
        request = GenerateRequest(
            f"prompt {index}",
            sampling=SamplingParams(temperature=temperature),
            max_tokens=tokens,
            seed=index,
            speculation=speculation,
        )
        found.append((await client.generate(request).result()).token_ids)
    return found


async def alone(client: Client, count: int) -> list[tuple[int, ...]]:
    return await outputs(client, count, speculation=Speculation.OFF)


async def shadowed(client: Client, name: str = "candidate") -> Shadow:
    return next(one for one in (await client.status()).shadows if one.name == name)


async def usable(client: Client) -> None:
    async def there() -> bool:
        return not (await shadowed(client)).hindrance

    await servers.eventually(there)


async def decided(client: Client, count: int) -> Shadow:
    """Once each output was walked along, left out, or given up."""

    async def done() -> bool:
        counts = (await shadowed(client)).counts
        return counts.outputs + counts.dropped + counts.failed >= count

    await servers.eventually(done)
    return await shadowed(client)


async def test_what_would_be_accepted_is_measured_and_the_outputs_are_the_same() -> None:
    registry = CollectorRegistry()
    count = 12
    async with (
        servers.target(TARGET) as target,
        servers.draft(f"simulated:step_ms=0,acceptance={RIGHT}", drafter="model") as candidate,
    ):
        async with servers.orchestrator([target.address], []) as client:
            expected = await alone(client, count)
        async with servers.orchestrator(
            [target.address],
            [],
            registry=registry,
            shadow_draft=[candidate.address],
            shadow_share=1,
        ) as client:
            await usable(client)
            assert await outputs(client, count) == expected
            found = await decided(client, count)
            status = await client.status()
    assert found.counts.outputs == found.outputs == count
    assert found.counts.dropped == found.counts.failed == 0
    assert found.tokens == sum(map(len, expected)) == count * TOKENS
    assert found.draft_rate == 1.0
    assert found.acceptance is not None
    assert found.acceptance.low < RIGHT < found.acceptance.high
    assert found.acceptance.high - found.acceptance.low < 0.15
    assert found.acceptance.value == found.counts.accepted / found.counts.judged
    assert None not in astuple(found.times)
    # Nothing of it is in what streams did.
    assert status.totals.drafted == status.totals.verified == status.totals.rounds == 0
    assert status.draft_pools == ()

    def get(name: str) -> float | None:
        return registry.get_sample_value(f"paceline_shadow_{name}", {"draft": "candidate"})

    assert get("outputs_total") == count
    assert get("judged_tokens_total") == found.counts.judged
    assert get("accepted_tokens_total") == found.counts.accepted
    assert get("acceptance_rate") == found.acceptance.value
    # What is said of it goes by these figures.
    (advice,) = judged(status)
    assert advice.predicted is not None
    assert advice.predicted.low <= advice.predicted.value <= advice.predicted.high


async def test_the_draft_in_use_goes_on_beside_a_candidate() -> None:
    async with (
        servers.target(TARGET) as target,
        servers.draft("simulated:step_ms=0,acceptance=0.9", drafter="model") as draft,
        servers.draft("simulated:step_ms=0,acceptance=0", drafter="model") as candidate,
        servers.orchestrator(
            [target.address],
            [draft.address],
            shadow_draft=[f"candidate={candidate.address}"],
            shadow_share=1,
        ) as client,
    ):
        await usable(client)
        expected = await alone(client, 4)
        assert await outputs(client, 4) == expected
        found = await decided(client, 8)
        (pool,) = (await client.status()).draft_pools
    assert found.acceptance is not None
    assert found.acceptance.value < 0.05
    assert pool.name == "draft"
    assert pool.counts.accepted > 0


async def test_a_candidate_that_is_killed_costs_nothing() -> None:
    async with servers.target(TARGET) as target:
        candidate = servers.draft("simulated:step_ms=20,acceptance=0.7", drafter="model")
        running = await candidate.__aenter__()
        async with servers.orchestrator(
            [target.address], [], shadow_draft=[running.address], shadow_share=1
        ) as client:
            await usable(client)
            expected = await alone(client, 3)
            assert (await shadowed(client)).counts.failed == 0
            await candidate.__aexit__(None, None, None)
            assert await outputs(client, 3) == expected
            found = await decided(client, 6)
    assert found.counts.failed + found.counts.dropped >= 1


async def test_a_candidate_that_says_nothing_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shadow_walk, "ROUND_SECONDS", 0.05)
    monkeypatch.setattr(shadow_walk, "SESSION_SECONDS", 0.5)
    async with (
        servers.target(TARGET) as target,
        servers.draft("simulated:step_ms=1000", drafter="model") as candidate,
        servers.orchestrator(
            [target.address], [], shadow_draft=[candidate.address], shadow_share=1
        ) as client,
    ):
        await usable(client)
        expected = await alone(client, 2)
        assert await outputs(client, 2) == expected
        found = await decided(client, 4)
    assert found.counts.failed >= 1
    assert found.acceptance is None


async def test_outputs_are_left_out_while_the_candidate_is_at_work(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(shadow, "QUEUED", 1)
    async with (
        servers.target(TARGET) as target,
        servers.draft("simulated:step_ms=1000", drafter="model") as candidate,
        servers.orchestrator(
            [target.address], [], shadow_draft=[candidate.address], shadow_share=1
        ) as client,
    ):
        await usable(client)
        await outputs(client, 4, tokens=8)
        found = await shadowed(client)
    assert found.counts.dropped >= 2


async def test_a_candidate_of_another_vocabulary_is_asked_nothing(tmp_path: Path) -> None:
    target_model, candidate_model = models(tmp_path, plain, renamed)
    async with (
        servers.target(target_model) as target,
        servers.draft(candidate_model, drafter="model") as candidate,
        servers.orchestrator(
            [target.address], [], shadow_draft=[candidate.address], shadow_share=1
        ) as client,
    ):

        async def told() -> bool:
            return "its vocabulary is not the target's" in (await shadowed(client)).hindrance

        await servers.eventually(told)
        await outputs(client, 2, tokens=8)
        found = await decided(client, 2)
    assert found.counts.dropped == 2
    assert found.counts.outputs == found.counts.failed == 0


async def test_a_candidate_with_other_ids_for_the_same_tokens_is_measured(tmp_path: Path) -> None:
    target_model, candidate_model = models(tmp_path, plain, turned)
    async with (
        servers.target(target_model) as target,
        servers.draft(candidate_model, drafter="model") as candidate,
        servers.orchestrator(
            [target.address], [], shadow_draft=[candidate.address], shadow_share=1
        ) as client,
    ):
        await usable(client)
        await outputs(client, 2, tokens=24, temperature=1.0)
        found = await decided(client, 2)
    assert found.counts.outputs == 2
    assert found.acceptance is not None
    assert found.acceptance.value == 1.0


async def test_a_share_of_outputs_is_drawn() -> None:
    async with (
        servers.target(TARGET) as target,
        servers.draft("simulated:step_ms=0,acceptance=0.7", drafter="model") as candidate,
        servers.orchestrator(
            [target.address], [], shadow_draft=[candidate.address], shadow_share=0.5
        ) as client,
    ):
        await usable(client)
        await asyncio.gather(*(outputs(client, 10, tokens=4) for _ in range(4)))
        found = await shadowed(client)
    assert 0 < found.counts.outputs + found.counts.dropped < 40
