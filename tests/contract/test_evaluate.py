"""paceline evaluate around real servers: what it records, and what it says."""

import html
import json
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from benchmarks.mismatched import mismatched
from orchestrator.backends.replica import Replica
from paceline import __version__
from paceline.engine.sampling.sampler import NOISE_SPAN
from paceline.engine.simulated import SimulatedModel
from paceline.protocol.proposal import Drafter
from paceline.protocol.sampling import SamplingParams
from paceline.protocol.session import Opening
from paceline.protocol.token_path import TokenPath
from paceline.rpc.channels import open_channel
from paceline_tools.bench.samples import Prompt
from paceline_tools.cli.app import main
from paceline_tools.evaluation.about import machine
from paceline_tools.evaluation.recorder import (
    VERIFIED_LENGTHS,
    DraftRecorder,
    TargetOutput,
    target_costs,
    target_output,
)
from paceline_tools.evaluation.recording import RecordedOutput
from tests import servers
from tests.tiny_models import tiny_model

TOKENS = 48
PROMPT = tuple(range(65, 90))
DRAFT = "simulated:step_ms=1,acceptance=0.6"


@asynccontextmanager
async def reached(server: servers.Server) -> AsyncIterator[Replica]:
    replica = Replica(server.address, open_channel(server.address))
    await replica.poll()
    try:
        yield replica
    finally:
        await replica.channel.close()


def opening(temperature: float = 0.0, **more: Any) -> Opening:
    sampling = SamplingParams(temperature=temperature)
    return Opening("r", PROMPT, sampling, 7, TOKENS, cache_salt="s", **more)


async def recorded(
    target: Path | str, draft: Path | str | None, drafter: str, temperature: float = 0.0
) -> tuple[TargetOutput, RecordedOutput, DraftRecorder]:
    async with (
        servers.target(target) as target_server,
        servers.draft(draft, drafter=drafter) as draft_server,
        reached(target_server) as target_replica,
        reached(draft_server) as draft_replica,
    ):
        output = await target_output(target_replica, Prompt("code", "-"), opening(temperature))
        recorder = DraftRecorder(draft_replica, target_server.started.model.vocabulary_size)
        found = await recorder.record(output)
        await servers.nothing_is_left(target_server, draft_server)
        return output, found, recorder


async def test_each_draft_token_is_the_drafts_own_behind_the_targets_tokens() -> None:
    output, found, recorder = await recorded("simulated:step_ms=1", DRAFT, "model")
    path = (*PROMPT, *output.token_ids)
    simulation = SimulatedModel.parse(DRAFT)
    near = 0
    for at, draft_token in enumerate(found.unpacked()):
        position = len(PROMPT) + at
        token, margin = simulation.draft_token(TokenPath(path[:position]).digest, position)
        assert draft_token is not None
        assert draft_token.drafter is Drafter.MODEL
        assert found.right[at] == (token == path[position])
        # The law sees no second best far below the best.
        assert draft_token.confidence in (pytest.approx(margin, abs=1e-3), NOISE_SPAN)
        near += draft_token.confidence < NOISE_SPAN
    assert near > TOKENS / 4
    assert 0 < sum(found.right) < TOKENS
    assert 0 < recorder.costs.step <= recorder.costs.restart


async def test_lookup_says_where_it_has_nothing(tmp_path: Path) -> None:
    _, found, recorder = await recorded(tiny_model(tmp_path / "t"), None, "ngram")
    draft_tokens = found.unpacked()
    assert len(draft_tokens) == TOKENS
    assert draft_tokens[0] is None
    assert all(
        draft_token is None or draft_token.drafter is Drafter.NGRAM for draft_token in draft_tokens
    )
    assert recorder.costs.step == 0.0


@pytest.mark.parametrize("temperature", [0.0, 1.0])
@pytest.mark.parametrize("drafter", ["model", "hybrid"])
async def test_the_target_itself_is_always_right_and_a_stranger_is_not(
    tmp_path: Path, temperature: float, drafter: str
) -> None:
    model = tiny_model(tmp_path / "t")
    _, same, _ = await recorded(model, model, drafter, temperature)
    of_model = [
        right
        for draft_token, right in zip(same.unpacked(), same.right, strict=True)
        if draft_token and draft_token.drafter is Drafter.MODEL
    ]
    assert of_model
    assert all(of_model)
    _, wrong_vocabulary, _ = await recorded(
        model, tiny_model(tmp_path / "s", seed=9), "model", temperature
    )
    assert sum(wrong_vocabulary.right) < TOKENS / 2


async def test_what_the_targets_steps_take_is_known_for_each_length() -> None:
    model = "simulated:step_ms=5,token_ms=1"
    async with servers.target(model) as target, reached(target) as replica:
        long = Opening("r", PROMPT, SamplingParams(temperature=0.0), 7, 80, cache_salt="s")
        output = await target_output(replica, Prompt("code", "-"), long)
        costs = await target_costs(replica, [output])
    assert set(costs.verify) == {0, *VERIFIED_LENGTHS}
    # A simulated step makes up for what the one before it overslept.
    assert all(costs.verify[length] > (4.5 + length) / 1e3 for length in costs.verify)
    assert costs.step > 0.0045
    assert costs.verify_token > 0


def evaluate(tmp_path: Path, *flags: str) -> tuple[int, dict[str, Any]]:
    figures = tmp_path / "figures.json"
    prompts = tmp_path / "prompts.jsonl"
    entries = [{"kind": kind, "prompt": f"{kind} {kind}"} for kind in ("code", "prose")]
    prompts.write_text("\n".join(json.dumps(entry) for entry in entries))
    status = 0
    try:
        main(["evaluate", f"--prompts={prompts}", f"--json={figures}", "--port=7590", *flags])
    except SystemExit as ended:
        status = int(ended.code or 0)
    return status, json.loads(figures.read_text())


@pytest.mark.slow
def test_a_good_draft_is_used_and_the_page_says_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    page, plot, recording = (tmp_path / name for name in ("e.html", "e.png", "e.json"))
    status, figures = evaluate(
        tmp_path,
        "--target=simulated:step_ms=30",
        "--candidate=good=simulated:step_ms=1,acceptance=0.98",
        "--max-tokens=40",
        f"--page={page}",
        f"--plot={plot}",
        f"--recording={recording}",
    )
    assert status == 0
    [good] = figures["candidates"]
    assert good["recommendation"]["words"].startswith("use: ")
    assert good["measured"]["variants"]["paceline_good"]["all"]["differing_tokens"] == 0
    assert good["alone"]["identical"] == good["alone"]["outputs"] == 2
    assert good["acceptance"]["all"]["rate"] > 0.9
    assert plot.stat().st_size > 10_000
    text = page.read_text()
    assert f"paceline: {__version__}" in text
    assert f"{datetime.now(UTC):%Y-}" in text
    assert html.escape(machine()) in text
    assert "made by <code>paceline evaluate --prompts" in text
    for line in (good["setting"][:60], *good["variables"]):
        assert line in text
    assert "data:image/png;base64," in text
    assert good["recommendation"]["words"] in text
    assert good["recommendation"]["words"] in capsys.readouterr().out
    # A recording is enough to tell what would be elsewhere.
    status, elsewhere = evaluate(tmp_path, f"--replay={recording}", "--round-trip-ms=4000")
    assert status == 3
    [far] = elsewhere["candidates"]
    assert "predicted for separate, 4000 ms" in far["recommendation"]["reasons"][0]


@pytest.mark.slow
def test_what_cannot_be_right_is_not_used_whatever_is_wrong_with_it(tmp_path: Path) -> None:
    target = tiny_model(tmp_path / "target")
    stranger = tiny_model(tmp_path / "stranger")
    tokenizer = stranger / "tokenizer.json"
    content = json.loads(tokenizer.read_text())
    content["model"]["vocab"] = {f"{name}x": one for name, one in content["model"]["vocab"].items()}
    tokenizer.write_text(json.dumps(content))
    shutil.copy(target / "tokenizer_config.json", stranger / "tokenizer_config.json")
    noise = mismatched(target, tmp_path / "noise", seed=9)
    status, figures = evaluate(
        tmp_path,
        f"--target={target}",
        f"--candidate=stranger={stranger}",
        f"--candidate=noise={noise}",
        "--max-tokens=24",
        "--dtype=float64",
        "--threads=1",
    )
    assert status == 3
    stranger_found, noise_found = figures["candidates"]
    assert "2 of 258 tokens the same" in stranger_found["recommendation"]["words"]
    assert noise_found["recommendation"]["words"].startswith("do not use: it would be ")
    assert noise_found["alone"]["perplexity"] > noise_found["alone"]["target_perplexity"]
    assert [one["recommendation"]["choice"] for one in figures["candidates"]] == ["do not use"] * 2
