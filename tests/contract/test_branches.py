"""Branches beside the draft tokens, through a real target: the tokens are the target's own."""

import contextlib
from collections.abc import AsyncIterator, Iterable
from pathlib import Path
from typing import Any

import grpc
import pytest

from paceline.protocol.features import BRANCHES
from paceline.protocol.limits import MAX_BRANCHES
from paceline.protocol.token_path import TokenPath
from paceline.rpc.channels import open_channel
from paceline.v1 import session_pb2, target_pb2, target_pb2_grpc
from tests import servers
from tests.tiny_models import tiny_model

PROMPT = (5, 6, 7)
TOKENS = 60

Tokens = tuple[int, ...]


@pytest.fixture(scope="module", params=["float32", "bfloat16", "simulated"])
def model(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path | str, dict[str, str]]:
    if request.param == "simulated":
        return "simulated:step_ms=0", {}
    folder = tiny_model(tmp_path_factory.mktemp("model"), dtype=request.param)
    return folder, {"dtype": request.param}


class Stream:
    """One session, asked for one verdict after another."""

    def __init__(self, call: Any) -> None:
        self._call = call
        self.output: Tokens = ()
        self.branch_verified = self.branch_accepted = 0

    async def verdict(self, **verify: Any) -> target_pb2.Verdict:
        await self._call.write(target_pb2.VerifyRequest(verify=target_pb2.Verify(**verify)))
        while not (response := await self._call.read()).HasField("verdict"):
            assert response is not grpc.aio.EOF
        verdict: target_pb2.Verdict = response.verdict
        assert verdict.position == len(PROMPT) + len(self.output)
        self.output += tuple(verdict.token_ids)
        self.branch_verified += verdict.branch_verified
        self.branch_accepted += verdict.branch_accepted
        return verdict


@contextlib.asynccontextmanager
async def stream(address: str, temperature: float) -> AsyncIterator[Stream]:
    opening = session_pb2.Open(prompt_token_ids=PROMPT, max_tokens=TOKENS, seed=1)
    opening.sampling.temperature, opening.sampling.top_p = temperature, 1.0
    async with open_channel(address) as channel:
        call: Any = target_pb2_grpc.TargetServiceStub(channel).Verify()
        await call.write(target_pb2.VerifyRequest(open=opening))
        yield Stream(call)
        call.cancel()


def proposal(before: Iterable[int], tokens: Tokens) -> session_pb2.Proposal:
    path = TokenPath((*PROMPT, *before))
    return session_pb2.Proposal(position=len(path), base_digest=path.digest, token_ids=tokens)


def other(token: int) -> int:
    return 65 if token != 65 else 66


@pytest.mark.parametrize("temperature", [0.0, 1.0])
async def test_the_target_goes_on_along_a_branch(
    model: tuple[Path | str, dict[str, str]], temperature: float
) -> None:
    folder, settings = model
    async with servers.target(folder, **settings) as target:
        assert BRANCHES in target.started.model.features
        async with stream(target.address, temperature) as plain:
            for _ in range(TOKENS):
                await plain.verdict()
        truth = plain.output
        async with stream(target.address, temperature) as branched:
            while (at := len(branched.output)) < TOKENS:
                known, rest = truth[:at], truth[at:]
                wrong = other(rest[min(2, len(rest) - 1)])
                chain = (*rest[:2], wrong, 1, 2) if len(rest) > 2 else (wrong, 1)
                fork = (*known, *rest[:2]) if len(rest) > 2 else known
                right = truth[len(fork) : len(fork) + 3]
                branches = [
                    proposal(known, (other(rest[0]), 3)),
                    proposal((*known, 9), (4,)),  # of no path
                    proposal(fork, (*right, 1, 2)),
                    proposal((*fork, 1, 2, 3, 4, 5, 6), (7,)),  # behind the draft tokens
                ]
                verdict = await branched.verdict(proposal=proposal(known, chain), branches=branches)
                assert branched.output == truth[: len(branched.output)]
                if len(rest) > 8:
                    assert (verdict.verified, verdict.accepted) == (5, 2)
                    assert (verdict.branch_verified, verdict.branch_accepted) == (7, 3)
                    assert len(verdict.token_ids) == 6
        assert branched.output == truth
        await servers.nothing_is_left(target)
        counted = [
            target.registry.get_sample_value(f"paceline_target_branch_{which}_tokens_total")
            for which in ("verified", "accepted")
        ]
        assert counted == [branched.branch_verified, branched.branch_accepted]


async def test_too_many_branches_are_refused() -> None:
    branches = [proposal((), (token,)) for token in range(MAX_BRANCHES + 1)]
    async with (
        servers.target("simulated:step_ms=0") as target,
        stream(target.address, 0.0) as one,
        stream(target.address, 0.0) as another,
    ):
        await one.verdict(proposal=proposal((), (200,)), branches=branches[:-1])
        with pytest.raises(grpc.aio.AioRpcError, match="at most 64 branches") as refused:
            await another.verdict(proposal=proposal((), (200,)), branches=branches)
        assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT
