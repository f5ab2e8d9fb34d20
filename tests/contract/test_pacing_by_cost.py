"""An orchestrator that minimises cost: prices decide how much is drafted, and no token changes."""

import pytest
from prometheus_client import CollectorRegistry

from orchestrator.speculation.estimates.measurements import BENCH_STREAMS
from paceline.protocol.generation import Speculation
from tests import servers
from tests.contract.test_draft_pools import GOOD, TARGET, output, pools


@pytest.mark.parametrize(("draft_price", "pays"), [(0.01, True), (10_000.0, False)])
async def test_a_cheap_draft_is_used_and_an_expensive_one_is_not(
    draft_price: float, pays: bool
) -> None:
    registry = CollectorRegistry()
    async with (
        servers.target(TARGET) as target,
        servers.draft(GOOD, drafter="model") as draft,
        servers.orchestrator(
            [target.address],
            [draft.address],
            registry=registry,
            objective="cost",
            target_price=1.0,
            draft_price=draft_price,
        ) as client,
    ):
        for prompt in map(str, range(BENCH_STREAMS + 1)):
            expected = await output(client, prompt, speculation=Speculation.OFF)
            assert await output(client, prompt) == expected
        [pool] = (await pools(client)).values()

    def steps(reason: str) -> float:
        about = {"draft": "draft", "reason": reason}
        return registry.get_sample_value("paceline_pacing_steps_total", about) or 0.0

    # Of 600 tokens. An expensive draft is only used until it is known, and by probes.
    assert (pool.counts.accepted > 300) == pays
    assert (steps("paused_cost") == 0) == pays
    assert (steps("paused_benched") == 0) == pays
