"""Several draft pools for one target: the one that pays is used, and no token depends on it."""

import asyncio
from collections.abc import Sequence
from contextlib import AsyncExitStack

import pytest
from prometheus_client import CollectorRegistry

from orchestrator.speculation.estimates.measurements import BENCH_STREAMS
from orchestrator.speculation.pacing.pausing import MAX_PROBE_TOKENS
from orchestrator.speculation.pool_choice import EXPLORE_STREAMS, MOVE_TOKENS
from paceline.client import Client
from paceline.protocol.generation import GenerateRequest, Speculation
from paceline.protocol.sampling import SamplingParams
from paceline.protocol.status import DraftPoolStatus, PoolState
from tests import servers
from tests.contract.test_waiting import text_of

TARGET = "simulated:step_ms=8"
GOOD, BAD = "simulated:step_ms=0.3,acceptance=0.9", "simulated:step_ms=0.3,acceptance=0"
SLOW = "simulated:step_ms=25"
TOKENS = 200


def request(
    prompt: str, tokens: int = TOKENS, speculation: Speculation = Speculation.AUTO
) -> GenerateRequest:
    greedy = SamplingParams(temperature=0)
    return GenerateRequest(
        prompt, sampling=greedy, max_tokens=tokens, seed=1, speculation=speculation
    )


async def output(
    client: Client,
    prompt: str,
    tokens: int = TOKENS,
    speculation: Speculation = Speculation.AUTO,
) -> tuple[int, ...]:
    result = await client.generate(request(prompt, tokens, speculation)).result()
    return result.token_ids


async def alone(client: Client, prompts: Sequence[str]) -> dict[str, tuple[int, ...]]:
    return {one: await output(client, one, speculation=Speculation.OFF) for one in prompts}


async def pools(client: Client) -> dict[str, DraftPoolStatus]:
    return {pool.name: pool for pool in (await client.status()).draft_pools}


@pytest.mark.slow
async def test_a_bad_pool_is_benched_and_a_good_one_used_and_the_tokens_are_the_targets() -> None:
    registry = CollectorRegistry()
    async with (
        servers.target(TARGET) as target,
        servers.draft(BAD, drafter="model") as bad,
        servers.draft(GOOD, drafter="model") as good,
        servers.orchestrator_alone(
            [target.address],
            [f"bad={bad.address}", f"good={good.address}"],
            registry,
            max_branch_tokens=0,
        ) as client,
    ):
        await servers.has_drafts(client, 2)
        prompts = [str(index) for index in range(BENCH_STREAMS + 4)]
        expected = await alone(client, prompts)
        for prompt in prompts:
            assert await output(client, prompt) == expected[prompt]
        found = await pools(client)
        assert list(found) == ["bad", "good"]
        assert found["bad"].state is PoolState.BENCHED
        assert "gave it up" in found["bad"].reason
        assert found["bad"].counts.accepted == 0 < found["bad"].counts.wasted
        assert found["good"].state is PoolState.IN_USE
        assert found["good"].counts.streams == 4
        assert found["bad"].counts.streams == BENCH_STREAMS
        assert found["good"].acceptance_rate is not None
        assert found["good"].acceptance_rate > 0.4
        assert found["good"].acceptance_by_position[0] > 0.7
        assert found["good"].speedup is not None
        assert (
            found["good"].speedup.low <= found["good"].speedup.value <= found["good"].speedup.high
        )
        assert_metrics_agree(registry, found)


async def test_a_stream_that_begins_paused_opens_no_session_before_it_probes() -> None:
    async with (
        servers.target("simulated:step_ms=1") as target,
        servers.draft(BAD, drafter="model") as bad,
        servers.orchestrator_alone([target.address], [bad.address]) as client,
    ):
        await servers.has_drafts(client, 1)
        prompts = [str(index) for index in range(BENCH_STREAMS + 2)]
        expected = await alone(client, prompts)
        for prompt in prompts[:-2]:
            assert await output(client, prompt) == expected[prompt]
        [pool] = (await pools(client)).values()
        assert (pool.state, pool.counts.streams) == (PoolState.BENCHED, BENCH_STREAMS)
        paused, probing = prompts[-2:]
        assert await output(client, paused) == expected[paused]
        [pool] = (await pools(client)).values()
        assert pool.counts.streams == BENCH_STREAMS
        probed = await output(client, probing, MAX_PROBE_TOKENS + 200)
        assert probed[:TOKENS] == expected[probing]
        [pool] = (await pools(client)).values()
        assert pool.counts.streams == BENCH_STREAMS + 1


def assert_metrics_agree(registry: CollectorRegistry, found: dict[str, DraftPoolStatus]) -> None:
    def get(name: str, draft: str, **more: str) -> float | None:
        return registry.get_sample_value(f"paceline_{name}", {"draft": draft, **more})

    for name, pool in found.items():
        drafted = get("spec_decode_num_draft_tokens_total", name, drafter="model")
        assert drafted == pool.counts.drafted
        assert get("spec_decode_num_verified_tokens_total", name) == pool.counts.verified
        assert get("spec_decode_num_accepted_tokens_total", name) == pool.counts.accepted
        for kind in ("verified", "accepted"):
            places = [
                sample.value
                for family in registry.collect()
                for sample in family.samples
                if sample.name == f"paceline_spec_decode_num_{kind}_tokens_per_pos_total"
                and sample.labels["draft"] == name
            ]
            assert sum(places) == getattr(pool.counts, kind)
            assert places == sorted(places, reverse=True)
        assert get("draft_benched", name) == (pool.state is PoolState.BENCHED)
        assert get("draft_streams_total", name) == pool.counts.streams
        assert get("drafts_ready", name) == 1
        assert get("draft_acceptance_rate", name) == pool.acceptance_rate
        assert get("draft_speedup_ratio", name) == (pool.speedup and pool.speedup.value)
    assert get("pacing_steps_total", "good", reason="speculating")


async def test_counters_move_while_a_stream_runs() -> None:
    registry = CollectorRegistry()

    def get(name: str, **labels: str) -> float:
        about = labels if "draft" in labels else {"model": "simulated", **labels}
        return registry.get_sample_value(f"paceline_{name}", about) or 0.0

    async with (
        servers.target("simulated:step_ms=10") as target,
        servers.draft(GOOD, drafter="model") as draft,
        servers.orchestrator_alone([target.address], [draft.address], registry) as client,
    ):
        await servers.has_drafts(client, 1)
        endless = asyncio.create_task(output(client, "long", tokens=20_000))

        async def moving() -> bool:
            place = get(
                "spec_decode_num_accepted_tokens_per_pos_total", draft="draft", position="1"
            )
            rounds = get("round_overhead_seconds_count")
            began = get("time_to_first_token_seconds_count") == 1
            return place > 3 and rounds > 3 and began and get("generation_tokens_total") > 3

        await servers.eventually(moving)
        assert get("streams_running") == 1
        assert get("draft_streams_running", draft="draft") == 1
        assert get("streams_total", outcome="length") == 0
        endless.cancel()
        await asyncio.gather(endless, return_exceptions=True)

        async def ended() -> bool:
            return get("streams_total", outcome="cancelled") == 1

        await servers.eventually(ended)
        assert get("round_overhead_seconds_count") == get("spec_decode_num_rounds_total")
        assert get("time_to_first_token_seconds_count") == 1
        assert get("e2e_request_latency_seconds_count") == 0
        steps = get("spec_decode_num_target_only_steps_total") + get("spec_decode_num_rounds_total")
        assert get("inter_token_latency_seconds_count") == steps - 1


async def test_a_stream_that_finds_drafts_full_starts_without_and_gets_one_when_there_is_room() -> (
    None
):
    """Beside one that has begun there is no room for another one whose prompt takes it all."""
    prompt, tokens = "b" * 3700, 50
    async with (
        servers.target(SLOW) as target,
        servers.draft(GOOD, drafter="model", kv_tokens=4096, kv_reserve_tokens=0) as draft,
        servers.orchestrator([target.address], [draft.address]) as client,
    ):
        expected = await output(client, prompt, tokens, Speculation.OFF)
        first = asyncio.create_task(output(client, "a", tokens=4000))

        async def drafted() -> bool:
            return (await pools(client))["draft"].counts.running == 1

        await servers.eventually(drafted)
        assert await output(client, prompt, tokens) == expected
        found = (await pools(client))["draft"]
        assert (found.state, found.counts.streams) == (PoolState.FULL, 1)
        second = asyncio.create_task(output(client, prompt, tokens=390))

        async def begun() -> bool:
            return (await client.status()).totals.running == 2

        await servers.eventually(begun)
        first.cancel()

        async def taken() -> bool:
            pool = (await pools(client))["draft"]
            return (
                pool.counts.streams == 2 and pool.counts.running == 1 and pool.counts.accepted > 0
            )

        await servers.eventually(taken)
        assert not second.done()
        second.cancel()
        await asyncio.gather(first, second, return_exceptions=True)
        await servers.nothing_is_left(target, draft)


async def test_a_stream_that_loses_its_draft_to_another_goes_on_and_gets_one_again() -> None:
    """Both outgrow the draft's pages; the later one gets its draft back when the other goes.

    They speculate whatever it brings: on a busy machine a pacer may well leave the draft alone.
    """
    model = "simulated:step_ms=15"
    forced = Speculation.FORCE
    async with (
        servers.target(model) as target,
        servers.draft(GOOD, drafter="model", kv_tokens=1024, kv_reserve_tokens=0) as draft,
        servers.orchestrator([target.address], [draft.address]) as client,
    ):
        first = asyncio.create_task(output(client, "a", 1000, forced))

        async def drafting(streams: int) -> bool:
            return (await pools(client))["draft"].counts.streams == streams

        await servers.eventually(lambda: drafting(1))
        second = asyncio.create_task(output(client, "b", 1000, forced))
        await servers.eventually(lambda: drafting(2))

        async def dropped() -> bool:
            get = draft.registry.get_sample_value
            return get("paceline_engine_preemptions_total") == 1

        await servers.eventually(dropped)
        first.cancel()
        await servers.eventually(lambda: drafting(3))
        assert not second.done()
        assert bytes(await second).decode() == text_of("b", 1000)
        await servers.nothing_is_left(target, draft)


async def test_a_stream_that_finds_the_preferred_pool_full_gets_another_at_once() -> None:
    async with (
        servers.target(TARGET) as target,
        servers.draft(GOOD, drafter="model", kv_tokens=512, kv_reserve_tokens=0) as small,
        servers.draft(GOOD, drafter="model") as large,
        servers.orchestrator(
            [target.address], [f"small={small.address}", f"large={large.address}"]
        ) as client,
    ):
        [expected] = (await alone(client, ["a"])).values()
        assert await output(client, "a") == expected
        await output(client, "long", tokens=600)
        found = await pools(client)
        assert found["small"].counts.streams == found["large"].counts.streams == 1
        assert found["large"].counts.accepted > 0


@pytest.mark.slow
async def test_a_lost_draft_is_replaced_from_another_pool_and_the_tokens_stay() -> None:
    async with (
        servers.target(TARGET) as target,
        servers.draft(GOOD, drafter="model") as other,
        AsyncExitStack() as lost,
    ):
        first = await lost.enter_async_context(servers.draft(GOOD, drafter="model"))
        async with servers.orchestrator(
            [target.address], [f"first={first.address}", f"other={other.address}"]
        ) as client:
            prompt = request("a", 800)
            tokens: list[int] = []
            async for delta in client.generate(prompt):
                if not tokens:
                    assert (await pools(client))["first"].counts.running == 1
                    await lost.aclose()
                tokens += [token.id for token in delta.tokens]
            off = request("a", 800, speculation=Speculation.OFF)
            assert tuple(tokens) == (await client.generate(off).result()).token_ids
            found = await pools(client)
            assert found["first"].state is PoolState.UNREACHABLE
            assert found["other"].counts.streams == 1
            assert found["other"].counts.accepted > 0


@pytest.mark.slow
async def test_a_replaced_model_is_used_at_once_and_what_was_learned_of_the_old_is_forgotten() -> (
    None
):
    async with servers.target(TARGET) as target, AsyncExitStack() as old:
        draft = servers.draft(BAD, drafter="model", model_name="old")
        first = await old.enter_async_context(draft)
        async with servers.orchestrator([target.address], [first.address]) as client:
            for index in range(BENCH_STREAMS):
                await output(client, str(index))
            assert (await pools(client))["draft"].state is PoolState.BENCHED
            await old.aclose()
            new = servers.draft(GOOD, address=first.address, drafter="model", model_name="new")
            async with new:

                async def forgotten() -> bool:
                    pool = (await pools(client))["draft"]
                    return pool.state is PoolState.IN_USE and pool.acceptance_rate is None

                await servers.eventually(forgotten)
                found = await client.generate(request("x")).result()
                assert found.finished.statistics.accepted > TOKENS / 10


@pytest.mark.slow
async def test_a_better_model_of_the_same_name_is_found_within_the_probing_bound() -> None:
    registry = CollectorRegistry()
    async with (
        servers.target(TARGET) as target,
        servers.draft(GOOD, drafter="model") as other,
        AsyncExitStack() as old,
    ):
        first = await old.enter_async_context(servers.draft(BAD, drafter="model"))
        drafts = [f"first={first.address}", f"other={other.address}"]
        async with servers.orchestrator_alone([target.address], drafts, registry) as client:
            await servers.has_drafts(client, 2)
            for index in range(BENCH_STREAMS):
                await output(client, str(index))
            assert (await pools(client))["first"].state is PoolState.BENCHED
            await old.aclose()
            better = "simulated:step_ms=0.3,acceptance=0.95"
            async with servers.draft(better, drafter="model", address=first.address):
                await servers.has_drafts(client, 2)
                before = (await pools(client))["first"].counts.streams
                for index in range(EXPLORE_STREAMS + 1):
                    await output(client, f"x{index}")
                found = (await pools(client))["first"]
                assert found.counts.streams > before
                assert found.counts.accepted > 0
                assert found.state is not PoolState.BENCHED


class Running:
    """A long stream, followed while it runs."""

    def __init__(self, client: Client, prompt: str) -> None:
        self.client = client
        self.prompt = prompt
        self.tokens: list[int] = []
        self.task = asyncio.create_task(self._follow())

    async def _follow(self) -> None:
        async for delta in self.client.generate(request(self.prompt, 20_000)):
            self.tokens += [token.id for token in delta.tokens]

    async def beyond(self, count: int) -> None:
        """Wait until it is so many tokens further on."""
        goal = len(self.tokens) + count

        async def there() -> bool:
            return len(self.tokens) >= goal

        await servers.eventually(there)

    async def stop(self) -> None:
        self.task.cancel()
        await asyncio.gather(self.task, return_exceptions=True)


@pytest.mark.slow
async def test_a_long_stream_moves_from_a_pool_that_does_not_pay_and_the_tokens_stay() -> None:
    registry = CollectorRegistry()
    async with (
        servers.target(TARGET) as target,
        servers.draft(BAD, drafter="model") as bad,
        servers.draft(GOOD, drafter="model") as good,
        servers.orchestrator(
            [target.address], [f"bad={bad.address}", f"good={good.address}"], registry=registry
        ) as client,
    ):
        stream = Running(client, "long")

        async def moved() -> bool:
            found = await pools(client)
            return found["good"].counts.running == 1 and found["good"].counts.accepted > 20

        await servers.eventually(moved)
        await stream.beyond(50)
        found = await pools(client)
        assert [found[name].counts.streams for name in ("bad", "good")] == [1, 1]
        assert [found[name].counts.running for name in ("bad", "good")] == [0, 1]
        assert found["bad"].counts.accepted == 0
        for name, moved_streams in (("bad", 1.0), ("good", 0.0)):
            left = "paceline_draft_streams_moved_total"
            assert registry.get_sample_value(left, {"draft": name}) == moved_streams
        await servers.nothing_is_left(bad)
        await stream.stop()
        tokens = tuple(stream.tokens)
        assert len(tokens) > MOVE_TOKENS
        expected = await output(client, "long", len(tokens), Speculation.OFF)
        assert tokens == expected
        await servers.nothing_is_left(target, good)


async def test_a_stream_that_cannot_move_as_the_other_pool_is_full_goes_on_as_it_was() -> None:
    async with (
        servers.target(TARGET) as target,
        servers.draft(BAD, drafter="model") as bad,
        servers.draft(GOOD, drafter="model", kv_tokens=512, kv_reserve_tokens=0) as small,
        servers.orchestrator(
            [target.address], [f"bad={bad.address}", f"small={small.address}"]
        ) as client,
    ):
        stream = Running(client, "long")

        async def refused() -> bool:
            return (await pools(client))["small"].state is PoolState.FULL

        await servers.eventually(refused)
        await stream.beyond(50)
        found = await pools(client)
        assert found["small"].counts.streams == 0
        assert found["bad"].counts.running == 1
        await stream.stop()
        tokens = tuple(stream.tokens)
        assert tokens == await output(client, "long", len(tokens), Speculation.OFF)
        await servers.nothing_is_left(target, bad, small)
