"""The law, over real servers: whatever the draft does, the tokens are the target's own."""

import asyncio
import json
import random
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import torch
from structlog.testing import CapturingLogger
from transformers import AutoModelForCausalLM

from orchestrator.backends import draft_router
from paceline.client import Client, Result
from paceline.protocol.generation import GenerateRequest, Speculation
from paceline.protocol.sampling import SamplingParams
from paceline.protocol.status import PoolState
from tests import servers
from tests.marks import slow
from tests.tiny_models import EOS, VOCABULARY, perturbed, tiny_model

TOKENS = 40
DRAFT_NOISE = {"identical": 0.0, "close": 0.02, "distant": 0.3, "unrelated": None}


def random_prompt(rng: random.Random) -> tuple[int, ...]:
    return tuple(rng.randrange(VOCABULARY - 2) for _ in range(rng.randrange(1, 30)))


def random_sampling(rng: random.Random) -> SamplingParams:
    return SamplingParams(
        temperature=rng.choice([0.0, 0.5, 1.0, 1.5]),
        top_k=rng.choice([0, 0, 5, 40]),
        top_p=rng.choice([1.0, 0.9, 0.5]),
        min_p=rng.choice([0.0, 0.0, 0.05]),
        repetition_penalty=rng.choice([1.0, 1.0, 1.2]),
        presence_penalty=rng.choice([0.0, 0.0, 0.5]),
        frequency_penalty=rng.choice([0.0, 0.0, 0.3]),
        logit_bias=rng.choice([{}, {7: 2.0, 9: -3.0}]),
        min_tokens=rng.choice([0, 10]),
        allowed_token_ids=rng.choice([(), (), tuple(range(0, VOCABULARY, 3))]),
        bad_words_token_ids=rng.choice([(), (), ((5,), (6, 7), (9, 9, 9))]),
    )


@pytest.fixture(scope="module")
def target_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_model(tmp_path_factory.mktemp("target"), "qwen2")


@pytest.fixture(scope="module")
def draft_folders(target_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folders = {}
    for name, noise in DRAFT_NOISE.items():
        folder = tmp_path_factory.mktemp(name)
        folders[name] = (
            tiny_model(folder, "llama", seed=99)
            if noise is None
            else perturbed(target_folder, folder, noise)
        )
    return folders


async def run(client: Client, request: GenerateRequest, speculation: Speculation) -> Result:
    fields = {name: getattr(request, name) for name in request.__slots__}
    return await client.generate(GenerateRequest(**{**fields, "speculation": speculation})).result()


def greedy_by_transformers(folder: Path, prompts: list[tuple[int, ...]]) -> list[tuple[int, ...]]:
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float64).eval()
    outputs = []
    for prompt in prompts:
        ids = torch.tensor([prompt])
        whole = model.generate(
            ids,
            attention_mask=torch.ones_like(ids),
            max_new_tokens=TOKENS,
            do_sample=False,
            eos_token_id=EOS,
            pad_token_id=EOS,
        )
        outputs.append(tuple(whole[0, len(prompt) :].tolist()))
    return outputs


@pytest.mark.parametrize(
    ("draft", "draft_length", "lookahead"),
    [
        ("identical", 0, None),
        ("identical", 8, 20),
        ("close", 5, 16),
        ("distant", 3, None),
        ("unrelated", 4, 12),
        *slow(
            ("identical", 1, 9),
            ("identical", 4, None),
            ("close", 2, 2),
            ("distant", 8, 8),
            ("unrelated", 7, None),
        ),
    ],
)
async def test_speculation_changes_no_token(
    draft: str,
    draft_length: int,
    lookahead: int | None,
    target_folder: Path,
    draft_folders: dict[str, Path],
) -> None:
    """Greedy is transformers' own; every sampling parameter is as without a draft."""
    rng = random.Random(f"{draft} {draft_length} {lookahead}")
    prompts = [random_prompt(rng) for _ in range(3)]
    greedy = greedy_by_transformers(target_folder, prompts)
    verified = 0
    async with (
        servers.target(target_folder) as target,
        servers.draft(draft_folders[draft], drafter="model") as drafts,
        servers.orchestrator(
            [target.address], [drafts.address], draft_length=draft_length, lookahead=lookahead
        ) as client,
    ):
        for prompt, expected in zip(prompts, greedy, strict=True):
            request = GenerateRequest(
                prompt, sampling=SamplingParams(temperature=0), max_tokens=TOKENS
            )
            for speculation in Speculation:
                assert (await run(client, request, speculation)).token_ids == expected
        for prompt in prompts:
            request = GenerateRequest(
                prompt,
                sampling=random_sampling(rng),
                seed=rng.getrandbits(64),
                max_tokens=TOKENS,
            )
            alone = await run(client, request, Speculation.OFF)
            forced = await run(client, request, Speculation.FORCE)
            assert forced.token_ids == alone.token_ids
            assert alone.finished.statistics.verified == 0
            statistics = forced.finished.statistics
            verified += statistics.verified
            if draft == "identical" and draft_length:
                assert statistics.acceptance_rate == 1.0
    assert bool(verified) == bool(draft_length)


@pytest.fixture
async def pair(
    target_folder: Path, draft_folders: dict[str, Path]
) -> AsyncIterator[tuple[Client, servers.Server, servers.Server]]:
    async with (
        servers.target(target_folder) as target,
        servers.draft(draft_folders["close"]) as draft,
        servers.orchestrator([target.address], [draft.address]) as client,
    ):
        yield client, target, draft


async def test_eight_streams_at_once_are_each_as_alone(
    pair: tuple[Client, servers.Server, servers.Server],
) -> None:
    client, target, draft = pair
    rng = random.Random(8)
    requests = [
        GenerateRequest(
            random_prompt(rng), sampling=random_sampling(rng), seed=index, max_tokens=TOKENS
        )
        for index in range(8)
    ]
    alone = [await run(client, request, Speculation.OFF) for request in requests]
    together = await asyncio.gather(
        *(
            run(client, request, rng.choice([Speculation.FORCE, Speculation.AUTO]))
            for request in requests
        )
    )
    assert [result.token_ids for result in together] == [result.token_ids for result in alone]
    await servers.nothing_is_left(target, draft)


async def test_a_prompt_longer_than_a_step_is_cut_and_stalls_nobody(
    target_folder: Path, draft_folders: dict[str, Path]
) -> None:
    rng = random.Random(3)
    long = GenerateRequest(
        tuple(rng.randrange(VOCABULARY - 2) for _ in range(500)), seed=1, max_tokens=20
    )
    short = GenerateRequest(random_prompt(rng), seed=2, max_tokens=TOKENS)
    async with (
        servers.target(target_folder, max_batched_tokens=64) as target,
        servers.draft(draft_folders["close"], max_batched_tokens=64) as draft,
        servers.orchestrator([target.address], [draft.address]) as client,
    ):
        alone = [await run(client, request, Speculation.OFF) for request in (long, short)]
        together = await asyncio.gather(
            *(run(client, request, Speculation.FORCE) for request in (long, short))
        )
    async with (
        servers.target(target_folder, max_batched_tokens=2048) as target,
        servers.orchestrator([target.address], []) as client,
    ):
        whole = [await run(client, request, Speculation.AUTO) for request in (long, short)]
    ids = [result.token_ids for result in alone]
    assert [result.token_ids for result in together] == ids
    assert [result.token_ids for result in whole] == ids


async def test_a_stream_resumes_at_every_token_as_if_nothing_had_been(
    pair: tuple[Client, servers.Server, servers.Server],
) -> None:
    client, *_ = pair
    sampling = SamplingParams(repetition_penalty=1.2, frequency_penalty=0.4, presence_penalty=0.2)
    request = GenerateRequest("resume me", sampling=sampling, seed=5, max_tokens=24)
    whole = await run(client, request, Speculation.FORCE)
    for index in range(1, len(whole.token_ids)):
        resumed = await run(
            client,
            GenerateRequest(
                whole.started.prompt_token_ids,
                sampling=sampling,
                seed=whole.started.seed,
                max_tokens=24,
                output_token_ids=whole.token_ids[:index],
                fingerprint=whole.started.fingerprint,
            ),
            Speculation.FORCE if index % 2 else Speculation.OFF,
        )
        assert whole.token_ids[:index] + resumed.token_ids == whole.token_ids
        assert resumed.deltas[0].token_index == index
        assert resumed.deltas[0].text_offset == len(text_of(whole, index))
        assert text_of(whole, index) + resumed.text == whole.text
        assert resumed.finished.usage.prompt_tokens == whole.finished.usage.prompt_tokens
        assert resumed.finished.usage.output_tokens == whole.finished.usage.output_tokens


def text_of(result: Result, count: int) -> str:
    return "".join(token.text for token in result.choices[0].tokens[:count])


async def test_a_client_that_leaves_frees_its_sessions(
    pair: tuple[Client, servers.Server, servers.Server],
) -> None:
    client, target, draft = pair
    for _ in range(3):
        generation = client.generate(GenerateRequest("leaving", seed=1, ignore_eos=True))
        async for _delta in generation:
            break
    await servers.nothing_is_left(target, draft)


@pytest.mark.parametrize("drafter", ["model", "hybrid"])
async def test_branches_change_no_token(
    drafter: str,
    target_folder: Path,
    draft_folders: dict[str, Path],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A draft on another host makes them: one that shares its cores with the target does not.

    Whether one is there when the verdict comes is a matter of timing, so it asks until some were.
    """
    rng = random.Random(drafter)
    async with servers.target(target_folder) as target:
        monkeypatch.setattr("socket.gethostname", lambda: "elsewhere")
        async with (
            servers.draft(draft_folders["close"], drafter=drafter) as draft,
            servers.orchestrator([target.address], [draft.address], draft_length=5) as client,
        ):
            for seed in range(60):
                request = GenerateRequest(
                    random_prompt(rng),
                    sampling=random_sampling(rng),
                    seed=seed,
                    max_tokens=TOKENS,
                )
                alone = await run(client, request, Speculation.OFF)
                for speculation in (Speculation.FORCE, Speculation.AUTO):
                    assert (await run(client, request, speculation)).token_ids == alone.token_ids
                taken = draft.registry.get_sample_value("paceline_draft_branches_taken_total")
                if seed >= 5 and taken:
                    break
            assert taken
            await servers.nothing_is_left(target, draft)


@pytest.mark.parametrize("drafter", ["ngram", "hybrid"])
async def test_lookup_changes_no_token_and_is_never_waited_for_in_vain(
    drafter: str, target_folder: Path, draft_folders: dict[str, Path]
) -> None:
    folder = draft_folders["close"] if drafter == "hybrid" else None
    rng = random.Random(drafter)
    repeating = random_prompt(rng) * 6
    requests = [
        GenerateRequest(
            repeating, sampling=SamplingParams(temperature=temperature), seed=9, max_tokens=TOKENS
        )
        for temperature in (0.0, 0.5)
    ]
    async with (
        servers.target(target_folder) as target,
        servers.draft(folder, drafter=drafter) as draft,
        servers.orchestrator([target.address], [draft.address]) as client,
    ):
        for request in [*requests, *requests]:
            alone = await run(client, request, Speculation.OFF)
            forced = await run(client, request, Speculation.FORCE)
            assert forced.token_ids == alone.token_ids
        # The same again: what followed is known, for all but the first tokens.
        statistics = forced.finished.statistics
        assert statistics.accepted > TOKENS / 2
        assert draft_tokens(draft, "ngram") > 0
        await servers.nothing_is_left(target, draft)


def draft_tokens(draft: servers.Server, drafter: str) -> float:
    labels = {"drafter": drafter}
    return draft.registry.get_sample_value("paceline_draft_proposed_tokens_total", labels) or 0


async def test_a_draft_with_another_vocabulary_is_benched_and_harms_nobody(
    target_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = CapturingLogger()  # where others log to depends on the tests before
    monkeypatch.setattr(draft_router, "_log", log)
    stranger = tiny_model(tmp_path, "qwen2")
    tokenizer = stranger / "tokenizer.json"
    content = json.loads(tokenizer.read_text())
    content["model"]["vocab"] = {f"{name}x": one for name, one in content["model"]["vocab"].items()}
    tokenizer.write_text(json.dumps(content))
    request = GenerateRequest("alone then", seed=1, max_tokens=TOKENS)
    async with (
        servers.target(target_folder) as target,
        servers.draft(stranger) as draft,
        servers.orchestrator([target.address], [draft.address], expect_drafts=0) as client,
    ):

        async def found_out() -> bool:
            [pool] = (await client.status()).draft_pools
            return pool.state is PoolState.WRONG_VOCABULARY

        await servers.eventually(found_out)
        assert ("draft benched",) in [call.args for call in log.calls]
        forced = await run(client, request, Speculation.FORCE)
        assert forced.token_ids == (await run(client, request, Speculation.OFF)).token_ids
        assert forced.finished.statistics.drafted == 0
        [pool] = (await client.status()).draft_pools
        assert pool.state is PoolState.WRONG_VOCABULARY
        assert pool.counts.streams == 0
