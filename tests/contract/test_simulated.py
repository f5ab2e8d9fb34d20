"""The real servers around simulated models: they pace, and change no token."""

import asyncio
import dataclasses
from collections.abc import Callable
from typing import Any

import pytest

from draft_server.run_ahead import RunAhead
from paceline.client import Client
from paceline.errors import FailedPrecondition
from paceline.protocol.generation import GenerateRequest, Speculation
from paceline.protocol.proposal import Proposal
from paceline.protocol.sampling import SamplingParams
from tests import servers

TOKENS = 240


async def output(client: Client, prompt: str, speculation: Speculation) -> tuple[int, ...]:
    request = GenerateRequest(
        prompt,
        sampling=SamplingParams(temperature=0),
        max_tokens=TOKENS,
        speculation=speculation,
        seed=1,
    )
    return (await client.generate(request).result()).token_ids


@pytest.mark.slow
async def test_one_and_many_streams_are_what_the_target_alone_gives() -> None:
    target_model = "simulated:step_ms=4,token_ms=0.1"
    draft_model = "simulated:step_ms=0.5,acceptance=0.9/0.2,phase_tokens=80"
    async with (
        servers.target(target_model) as target,
        servers.draft(draft_model, drafter="model") as draft,
        servers.orchestrator([target.address], [draft.address]) as client,
    ):
        expected = {
            str(index): await output(client, str(index), Speculation.OFF) for index in range(8)
        }
        for speculation in (Speculation.AUTO, Speculation.FORCE):
            assert await output(client, "0", speculation) == expected["0"]
        together = await asyncio.gather(
            *(output(client, prompt, Speculation.AUTO) for prompt in expected)
        )
        assert together == list(expected.values())
        status = await client.status()
        assert status.totals.running == 0
        assert status.totals.streams == len(expected) + 2 + len(together)
        assert status.totals.tokens == TOKENS * status.totals.streams
        assert status.totals.accepted > 0
        assert status.draft_pools[0].times.decode_step_seconds is not None
        await servers.nothing_is_left(target, draft)


async def test_the_first_stream_alone_speculates_as_soon_as_it_knows_what_a_step_takes() -> None:
    async with (
        servers.target("simulated:step_ms=20") as target,
        servers.draft("simulated:step_ms=1,acceptance=0.95", drafter="model") as draft,
        servers.orchestrator([target.address], [draft.address]) as client,
    ):
        request = GenerateRequest(
            "a", sampling=SamplingParams(temperature=0), max_tokens=TOKENS, seed=1
        )
        statistics = (await client.generate(request).result()).finished.statistics
        assert statistics.accepted > TOKENS / 2
        assert statistics.target_only_steps < TOKENS / 4


async def test_branches_of_a_draft_elsewhere_are_taken_and_change_no_token(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with servers.target("simulated:step_ms=6") as target:
        monkeypatch.setattr("paceline.engine.simulated.getpid", lambda: "elsewhere")
        async with (
            servers.draft("simulated:step_ms=0.5,acceptance=0.6", drafter="model") as draft,
            servers.orchestrator([target.address], [draft.address]) as client,
        ):
            alone = await output(client, "a", Speculation.OFF)
            for speculation in (Speculation.AUTO, Speculation.FORCE):
                assert await output(client, "a", speculation) == alone
            await servers.nothing_is_left(target, draft)
            drafted = draft.registry.get_sample_value("paceline_draft_branch_tokens_total")
            taken = draft.registry.get_sample_value("paceline_draft_branches_taken_total")
            assert taken
            assert drafted
            assert taken < drafted


async def test_a_token_of_an_branch_that_is_taken_counts_as_drafted_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    made = 0

    def counted(make: Callable[..., Proposal | None]) -> Callable[..., Proposal | None]:
        def make_and_count(*arguments: Any) -> Proposal | None:
            nonlocal made
            proposal = make(*arguments)
            made += len(proposal.token_ids) if proposal else 0
            return proposal

        return make_and_count

    for name in ("propose", "grow"):
        monkeypatch.setattr(RunAhead, name, counted(getattr(RunAhead, name)))
    async with servers.target("simulated:step_ms=6") as target:
        monkeypatch.setattr("paceline.engine.simulated.getpid", lambda: "elsewhere")
        async with (
            servers.draft("simulated:step_ms=0.5,acceptance=0.6", drafter="model") as draft,
            servers.orchestrator([target.address], [draft.address]) as client,
        ):
            await output(client, "a", Speculation.FORCE)
            await servers.nothing_is_left(target, draft)
            taken = draft.registry.get_sample_value("paceline_draft_branches_taken_total")
            assert taken
            [pool] = (await client.status()).draft_pools
            assert 0 < pool.counts.drafted <= made
            assert pool.counts.wasted == pool.counts.drafted - pool.counts.accepted


async def test_what_a_request_rules_out_no_simulated_model_says() -> None:
    """Whatever its table has: the rule is that of the servers around it."""
    letters = tuple(b"etaoin ")
    async with (
        servers.target("simulated:step_ms=1") as target,
        servers.draft("simulated:step_ms=0.5,acceptance=0.8", drafter="model") as draft,
        servers.orchestrator([target.address], [draft.address]) as client,
    ):
        for temperature in (0.0, 1.0):
            request = GenerateRequest(
                "a",
                sampling=SamplingParams(temperature=temperature, allowed_token_ids=letters),
                bad_words=("e", "at", "in t"),
                max_tokens=60,
                seed=1,
                speculation=Speculation.OFF,
            )
            alone = await client.generate(request).result()
            forced = await client.generate(
                dataclasses.replace(request, speculation=Speculation.FORCE)
            ).result()
            assert forced.token_ids == alone.token_ids
            assert forced.finished.statistics.accepted
            assert set(alone.text) <= set("taoin ")
            assert not any(word in alone.text for word in request.bad_words)


@pytest.mark.parametrize("field", ["logprobs", "prompt_logprobs"])
async def test_what_a_simulated_target_does_not_give_is_said(field: str) -> None:
    async with (
        servers.target("simulated:step_ms=1") as target,
        servers.orchestrator([target.address], []) as client,
    ):
        said = f"^{field}: this target gives no {field}; leave the field out$"
        with pytest.raises(FailedPrecondition, match=said):
            await client.generate(GenerateRequest("x", **{field: 1})).result()  # type: ignore[arg-type]
