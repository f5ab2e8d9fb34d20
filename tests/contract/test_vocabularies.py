"""Drafts whose vocabulary is not quite the target's: they draft, and change nothing."""

import json
from collections.abc import Callable
from contextlib import AsyncExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM

from paceline.client import Client, Result
from paceline.protocol.generation import GenerateRequest, Speculation
from paceline.protocol.sampling import SamplingParams
from paceline.protocol.status import PoolState
from paceline_tools.cli.diagnosis import diagnose
from tests import servers
from tests.tiny_models import BYTES, VOCABULARY, tiny_model

TOKENS = 48
Content = dict[str, Any]


def rewritten(folder: Path, change: Callable[[Content], None]) -> Path:
    path = folder / "tokenizer.json"
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))
    return folder


def with_rows(folder: Path, order: list[int]) -> Path:
    """The same model, whose rows are those of `order`; new ones, -1, are the likeliest of all."""
    model = AutoModelForCausalLM.from_pretrained(folder, dtype="auto")
    weights = {name: one.detach().clone() for name, one in model.state_dict().items()}
    model.resize_token_embeddings(len(order), mean_resizing=False)
    rows = torch.tensor([max(0, one) for one in order])
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name in {"model.embed_tokens.weight", "lm_head.weight"}:
                parameter.copy_(weights[name][rows])
                if name == "lm_head.weight":
                    parameter[torch.tensor(order) < 0] *= 3.0
    model.save_pretrained(folder)
    return folder


def padded(folder: Path) -> Path:
    """As converters to GGUF leave it: more rows than tokens, with names."""
    with_rows(folder, [*range(VOCABULARY), -1, -1])

    def name(content: Content) -> None:
        names = {f"[PAD{one}]": one for one in range(VOCABULARY, VOCABULARY + 2)}
        content["model"]["vocab"] |= names

    return rewritten(folder, name)


def with_a_special(folder: Path) -> Path:
    with_rows(folder, [*range(VOCABULARY), -1])

    def add(content: Content) -> None:
        known = content["added_tokens"][0]
        content["added_tokens"].append({**known, "id": VOCABULARY, "content": "<|tool|>"})

    return rewritten(folder, add)


def wider(folder: Path) -> Path:
    """More rows, of which the tokenizer knows nothing."""
    return with_rows(folder, [*range(VOCABULARY), *[-1] * 30])


def turned(folder: Path) -> Path:
    """The bytes by other ids."""
    order = [*reversed(range(BYTES)), *range(BYTES, VOCABULARY)]
    with_rows(folder, order)

    def turn(content: Content) -> None:
        vocabulary = content["model"]["vocab"]
        content["model"]["vocab"] = {
            name: BYTES - 1 - one if one < BYTES else one for name, one in vocabulary.items()
        }

    return rewritten(folder, turn)


def renamed(folder: Path) -> Path:
    """Another vocabulary of the same size."""

    def rename(content: Content) -> None:
        vocabulary = content["model"]["vocab"]
        content["model"]["vocab"] = {f"{name}x": one for name, one in vocabulary.items()}

    return rewritten(folder, rename)


def without(folder: Path) -> Path:
    (folder / "tokenizer.json").unlink()
    return folder


def short(folder: Path) -> Path:
    """Fewer positions than the stream takes."""
    path = folder / "config.json"
    config = json.loads(path.read_text())
    path.write_text(json.dumps(config | {"max_position_embeddings": 36}))
    return folder


def request(temperature: float, speculation: Speculation) -> GenerateRequest:
    sampling = SamplingParams(
        temperature=temperature, logit_bias={VOCABULARY - 1: -100.0, 7: -1.0}, min_tokens=TOKENS
    )
    return GenerateRequest(
        "overlap", sampling=sampling, max_tokens=TOKENS, seed=5, speculation=speculation
    )


async def result(client: Client, temperature: float, speculation: Speculation) -> Result:
    return await client.generate(request(temperature, speculation)).result()


def models(tmp_path: Path, of_target: Any, of_draft: Any) -> tuple[Path, Path]:
    target, draft = (tiny_model(tmp_path / name) for name in ("target", "draft"))
    return of_target(target), of_draft(draft)


def plain(folder: Path) -> Path:
    return folder


@pytest.mark.parametrize(
    ("of_target", "of_draft", "said"),
    [
        (plain, plain, ""),
        (plain, padded, ""),
        (padded, plain, f"{VOCABULARY} of {VOCABULARY + 2} tokens the same"),
        (plain, with_a_special, ""),
        (with_a_special, plain, f"{VOCABULARY} of {VOCABULARY + 1} tokens the same"),
        (plain, wider, ""),
        (wider, plain, f"{VOCABULARY} of {VOCABULARY + 30} tokens the same"),
        (plain, turned, ""),
        (plain, without, ""),
    ],
)
async def test_what_both_have_is_drafted_as_well_as_with_equal_vocabularies(
    of_target: Any, of_draft: Any, said: str, tmp_path: Path
) -> None:
    target_folder, draft_folder = models(tmp_path, of_target, of_draft)
    async with AsyncExitStack() as stack:
        target = await stack.enter_async_context(servers.target(target_folder))
        draft = await stack.enter_async_context(
            servers.draft(draft_folder, drafter="model", weights="bf16")
        )
        client = await stack.enter_async_context(
            servers.orchestrator([target.address], [draft.address], draft_wait_seconds=30)
        )
        for temperature in (0.0, 1.0):
            expected = await result(client, temperature, Speculation.OFF)
            for speculation in (Speculation.FORCE, Speculation.AUTO):
                found = await result(client, temperature, speculation)
                assert found.token_ids == expected.token_ids
                if speculation is Speculation.FORCE and of_target is plain:
                    # The same weights: it is right wherever the target says what both have.
                    statistics = found.finished.statistics
                    assert statistics.accepted == statistics.verified > TOKENS / 2
        status = await client.status()
        [pool] = status.draft_pools
        assert pool.state is not PoolState.WRONG_VOCABULARY
        assert said in pool.reason
        [vocabulary] = [one.vocabulary for one in status.servers if one.pool]
        assert vocabulary.startswith(f"{said}, " if said else "")
        assert bool(vocabulary) == bool(said)
        assert any(said in finding.what for finding in diagnose(status, "x"))


async def test_another_vocabulary_is_named_with_what_both_have(tmp_path: Path) -> None:
    target_folder, draft_folder = models(tmp_path, plain, renamed)
    async with (
        servers.target(target_folder) as target,
        servers.draft(draft_folder) as draft,
        servers.orchestrator([target.address], [draft.address], expect_drafts=0) as client,
    ):

        async def known() -> bool:
            [pool] = (await client.status()).draft_pools
            return pool.state is PoolState.WRONG_VOCABULARY

        await servers.eventually(known)
        [pool] = (await client.status()).draft_pools
        assert f"2 of {VOCABULARY} tokens the same" in pool.reason
        expected = await result(client, 0.0, Speculation.OFF)
        assert (await result(client, 0.0, Speculation.FORCE)).token_ids == expected.token_ids


async def test_a_draft_with_fewer_positions_drafts_as_far_as_they_go(tmp_path: Path) -> None:
    target_folder, draft_folder = models(tmp_path, plain, short)
    async with (
        servers.target(target_folder) as target,
        servers.draft(draft_folder, drafter="model", weights="bf16") as draft,
        servers.orchestrator([target.address], [draft.address], draft_wait_seconds=30) as client,
    ):
        expected = await result(client, 0.0, Speculation.OFF)
        for speculation in (Speculation.FORCE, Speculation.AUTO):
            found = await result(client, 0.0, speculation)
            assert found.token_ids == expected.token_ids
            statistics = found.finished.statistics
            if speculation is Speculation.FORCE:
                assert 10 < statistics.accepted < 36 - len("overlap")


async def test_a_prompt_longer_than_a_drafts_positions_and_tokens_it_lacks_are_no_fault(
    tmp_path: Path,
) -> None:
    target_folder, draft_folder = models(tmp_path, with_a_special, plain)
    short_folder = short(tiny_model(tmp_path / "short"))
    async with (
        servers.target(target_folder) as target,
        servers.draft(draft_folder, drafter="hybrid", weights="bf16") as draft,
        servers.draft(short_folder, weights="bf16") as small,
        servers.orchestrator(
            [target.address],
            [f"small={small.address}", f"draft={draft.address}"],
            draft_wait_seconds=30,
        ) as client,
    ):
        prompt = (1, 2, VOCABULARY, 3) * 10
        for temperature in (0.0, 1.0):
            asked = replace(request(temperature, Speculation.OFF), prompt=prompt)
            expected = await client.generate(asked).result()
            for speculation in (Speculation.FORCE, Speculation.AUTO):
                forced = replace(asked, speculation=speculation)
                found = await client.generate(forced).result()
                assert found.token_ids == expected.token_ids
        pools = {pool.name: pool for pool in (await client.status()).draft_pools}
        assert pools["small"].counts.streams == 0 < pools["draft"].counts.verified


async def test_lookup_never_proposes_what_streams_of_another_target_had(tmp_path: Path) -> None:
    folders = with_a_special(tiny_model(tmp_path / "large")), tiny_model(tmp_path / "small")
    prompts = (VOCABULARY,) * 20, (1,) * 20
    async with servers.draft(None) as draft:
        for folder, prompt in zip(folders, prompts, strict=True):
            async with (
                servers.target(folder) as target,
                servers.orchestrator(
                    [target.address], [draft.address], draft_wait_seconds=0.2
                ) as client,
            ):
                asked = replace(request(0.0, Speculation.OFF), prompt=prompt)
                expected = await client.generate(asked).result()
                forced = replace(asked, speculation=Speculation.FORCE)
                assert (await client.generate(forced).result()).token_ids == expected.token_ids
                [pool] = (await client.status()).draft_pools
                assert pool.state is not PoolState.BENCHED
