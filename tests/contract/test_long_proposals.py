"""A proposal of more rows than a step has: its head is verified, and nobody waits for ever."""

from pathlib import Path
from typing import Any

import pytest

from paceline.protocol.generation import GenerateRequest, Speculation
from paceline.protocol.token_path import TokenPath
from paceline.rpc.channels import open_channel
from paceline.v1 import session_pb2, target_pb2, target_pb2_grpc
from tests import servers
from tests.tiny_models import tiny_model

PROMPT = (5, 6, 7)
STEP_ROWS, BLOCK_ROWS = 64, 48


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_model(tmp_path_factory.mktemp("model"))


async def next_verdict(call: Any) -> target_pb2.Verdict:
    while not (response := await call.read()).HasField("verdict"):
        pass
    verdict: target_pb2.Verdict = response.verdict
    return verdict


@pytest.mark.parametrize("proposed", [47, 48, 63, 64, 300])
async def test_as_many_rows_as_a_step_leaves_to_blocks_are_verified(
    folder: Path, proposed: int
) -> None:
    request = GenerateRequest(
        PROMPT, max_tokens=320, ignore_eos=True, seed=1, speculation=Speculation.OFF
    )
    opening = session_pb2.Open(prompt_token_ids=PROMPT, max_tokens=320, seed=1)
    opening.sampling.temperature, opening.sampling.top_p = 1.0, 1.0
    async with (
        servers.target(folder, max_batched_tokens=STEP_ROWS) as target,
        servers.orchestrator([target.address], []) as client,
        open_channel(target.address) as channel,
    ):
        expected = (await client.generate(request).result()).token_ids
        long = client.generate(GenerateRequest((9,) * 900, max_tokens=1))
        stub = target_pb2_grpc.TargetServiceStub(channel)
        call: Any = stub.Verify()
        await call.write(target_pb2.VerifyRequest(open=opening))
        proposal = session_pb2.Proposal(
            position=len(PROMPT),
            base_digest=TokenPath(PROMPT).digest,
            token_ids=expected[:proposed],
        )
        verify = target_pb2.Verify(proposal=proposal)
        await call.write(target_pb2.VerifyRequest(verify=verify))
        verdict = await next_verdict(call)
        right = min(proposed, BLOCK_ROWS - 1)
        assert (verdict.verified, verdict.accepted) == (right, right)
        assert tuple(verdict.token_ids) == expected[: right + 1]
        call.cancel()
        await long.result()
        await servers.nothing_is_left(target)
