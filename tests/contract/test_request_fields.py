"""Fields that rule tokens out, keep text, cut prompts and score them, over real servers."""

import dataclasses
import random
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from draft_server.drafters.registry import DRAFTERS
from paceline.client import Client, Result
from paceline.errors import FailedPrecondition, InvalidArgument, NotFound
from paceline.protocol.features import OF_ORCHESTRATOR
from paceline.protocol.generation import (
    ChatMessage,
    FinishReason,
    GenerateRequest,
    Prompt,
    Speculation,
)
from paceline.protocol.sampling import SamplingParams
from tests import servers
from tests.tiny_models import BOS, EOS, VOCABULARY, perturbed, tiny_model

TOKENS = 32
LETTERS = tuple(range(60, 70))
"""Ids of letters: few, so that outputs repeat and words come that were forbidden."""


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    target = tiny_model(tmp_path_factory.mktemp("target"), "qwen2")
    return target, perturbed(target, tmp_path_factory.mktemp("draft"), 0.05)


@pytest.fixture
async def alone(folders: tuple[Path, Path]) -> AsyncIterator[tuple[Client, servers.Server]]:
    async with (
        servers.target(folders[0]) as target,
        servers.orchestrator([target.address], []) as client,
    ):
        yield client, target


async def run(client: Client, request: GenerateRequest, speculation: Speculation) -> Result:
    return await client.generate(dataclasses.replace(request, speculation=speculation)).result()


def a_request(rng: random.Random) -> GenerateRequest:
    """With some of the fields, neutral ones often."""
    text = "".join(chr(rng.randrange(97, 103)) for _ in range(rng.randrange(1, 30)))
    prompts: list[Prompt] = [text * 3, (ChatMessage("user", text),)]
    return GenerateRequest(
        prompt=rng.choice(prompts),
        sampling=SamplingParams(
            temperature=rng.choice([0.0, 1.0, 1.5]),
            top_p=rng.choice([1.0, 0.9]),
            frequency_penalty=rng.choice([0.0, 0.3]),
            min_tokens=rng.choice([0, 6]),
            allowed_token_ids=rng.choice([(), LETTERS, (*LETTERS, EOS)]),
            bad_words_token_ids=rng.choice(
                [(), ((60,), (61, 62)), tuple((id_,) for id_ in LETTERS)]
            ),
        ),
        seed=rng.getrandbits(64),
        max_tokens=TOKENS,
        stop=rng.choice([(), ("ab", "ccc", "<|eos|>")]),
        include_stop=rng.random() < 0.5,
        skip_special_tokens=rng.random() < 0.5,
        bad_words=rng.choice([(), ("a", "bc"), ("\ufffd",)]),
        truncate_prompt_tokens=rng.choice([None, -1, 1, 7, 5000]),
        logprobs=rng.choice([None, 2]),
    )


def said(result: Result) -> tuple[object, ...]:
    [choice] = result.choices
    finished = choice.finished
    return (
        result.started.prompt_token_ids,
        choice.token_ids,
        [(token.text, token.logprobs) for token in choice.tokens],
        (finished.finish_reason, finished.stop_string, finished.stop_token_id),
    )


@pytest.mark.parametrize("drafter", DRAFTERS)
async def test_with_and_without_any_drafter_the_output_is_the_same(
    drafter: str, folders: tuple[Path, Path]
) -> None:
    rng = random.Random(drafter)
    accepted = 0
    async with (
        servers.target(folders[0]) as target,
        servers.draft(folders[1] if drafter != "ngram" else None, drafter=drafter) as draft,
        servers.orchestrator([target.address], [draft.address], draft_length=4) as client,
    ):
        for _ in range(24):
            request = a_request(rng)
            off = await run(client, request, Speculation.OFF)
            forced = await run(client, request, Speculation.FORCE)
            assert said(forced) == said(off), request
            accepted += forced.finished.statistics.accepted
            check_rules(request, off)
        await servers.nothing_is_left(target, draft)
    assert accepted


def check_rules(request: GenerateRequest, result: Result) -> None:
    sampling = result.started.sampling
    assert sampling is not None
    output = result.token_ids
    allowed = sampling.allowed_token_ids or range(VOCABULARY)
    assert set(output) <= set(allowed)
    free = set(allowed) - {word[0] for word in sampling.bad_words_token_ids if len(word) == 1}
    if len(free) > 4:  # whatever came before, some token completes no bad word
        for end in range(1, len(output) + 1):
            words = sampling.bad_words_token_ids
            assert not any(output[:end][-len(word) :] == word for word in words)


async def test_a_draft_that_agrees_drafts_by_the_same_rules(folders: tuple[Path, Path]) -> None:
    rng = random.Random(7)
    async with (
        servers.target(folders[0]) as target,
        servers.draft(folders[0], drafter="model") as draft,
        servers.orchestrator([target.address], [draft.address], draft_length=4) as client,
    ):
        for _ in range(6):
            request = dataclasses.replace(a_request(rng), stop=())
            statistics = (await run(client, request, Speculation.FORCE)).finished.statistics
            assert statistics.accepted == statistics.verified


async def test_a_resumed_stream_keeps_to_its_rules(
    alone: tuple[Client, servers.Server],
) -> None:
    client, _ = alone
    rng = random.Random(1)
    for _ in range(6):
        request = a_request(rng)
        whole = await run(client, request, Speculation.OFF)
        for count in range(1, len(whole.token_ids), 3):
            rest = await client.generate(
                dataclasses.replace(
                    request,
                    prompt=whole.started.prompt_token_ids,
                    output_token_ids=whole.token_ids[:count],
                    seed=whole.started.seed,
                )
            ).result()
            assert whole.token_ids == whole.token_ids[:count] + rest.token_ids
            assert whole.text.endswith(rest.text)
            assert rest.deltas[0].text_offset == len(whole.text) - len(rest.text)


async def test_what_ends_an_output_is_kept_in_its_text(
    alone: tuple[Client, servers.Server],
) -> None:
    client, _ = alone
    request = GenerateRequest(
        "once",
        sampling=SamplingParams(logit_bias=dict.fromkeys(LETTERS, 6.0)),
        seed=3,
        max_tokens=TOKENS,
    )
    whole = await run(client, request, Speculation.OFF)
    for start in range(0, len(whole.text) - 3, 4):
        stop = whole.text[start : start + 3]
        cut = dataclasses.replace(request, stop=(stop,))
        without = await run(client, cut, Speculation.OFF)
        kept = await run(client, dataclasses.replace(cut, include_stop=True), Speculation.OFF)
        assert kept.text == without.text + stop
        assert kept.finished.stop_string == without.finished.stop_string == stop
        assert kept.token_ids == without.token_ids
    token = whole.choices[0].tokens[5]
    ended = dataclasses.replace(request, stop_token_ids=(token.id,))
    kept = await run(client, dataclasses.replace(ended, include_stop=True), Speculation.OFF)
    assert kept.text == (await run(client, ended, Speculation.OFF)).text + token.text
    assert kept.finished.stop_token_id == token.id


async def test_special_tokens_are_in_the_text_where_that_is_asked_for(
    alone: tuple[Client, servers.Server],
) -> None:
    client, _ = alone
    eager = SamplingParams(logit_bias={BOS: 100.0, EOS: 90.0}, frequency_penalty=2.0)
    request = GenerateRequest("x", sampling=eager, seed=1, max_tokens=3, ignore_eos=True)
    assert (await client.generate(request).result()).text == ""
    named = dataclasses.replace(request, skip_special_tokens=False)
    assert (await client.generate(named).result()).text == "<|bos|>" * 3
    stopped = dataclasses.replace(named, stop=("os|><|b",))
    result = await client.generate(stopped).result()
    assert (result.text, result.finished.stop_string) == ("<|b", "os|><|b")


async def test_a_prompt_is_scored_as_an_ordinary_request_scores_it(
    alone: tuple[Client, servers.Server], folders: tuple[Path, Path]
) -> None:
    client, target = alone
    for prompt in ("x", "to be scored", tuple(range(90)), (ChatMessage("user", "hi"),)):
        ordinary = GenerateRequest(prompt, seed=1, max_tokens=4, prompt_logprobs=3)
        expected = await run(client, ordinary, Speculation.OFF)
        for speculation in Speculation:
            scored = await run(
                client, dataclasses.replace(ordinary, max_tokens=0, logprobs=2), speculation
            )
            assert scored.prompt_logprobs == expected.prompt_logprobs
            assert len(scored.prompt_logprobs) == len(scored.started.prompt_token_ids) - 1
            assert scored.started == dataclasses.replace(
                expected.started, max_tokens=0, request_id=scored.started.request_id
            )
            assert scored.token_ids == ()
            assert scored.text == ""
            assert scored.finished.finish_reason is FinishReason.LENGTH
            assert scored.finished.usage.output_tokens == 0
            await servers.nothing_is_left(target)


async def test_ids_become_the_text_that_they_came_from(
    alone: tuple[Client, servers.Server],
) -> None:
    client, _ = alone
    for text in (
        "né e\u0301 日本語 👩\u200d👩 🇩🇪\n\tx\u00a0",
        " two  blanks ",
        "\x00\x7f",
        "\u2581<0x41>",
    ):
        assert await client.detokenize(await client.tokenize(text)) == text
    ids = (BOS, *await client.tokenize("hi"), EOS)
    assert await client.detokenize(ids) == "hi"
    assert await client.detokenize(ids, skip_special_tokens=False) == "<|bos|>hi<|eos|>"
    assert await client.detokenize(()) == ""
    result = await client.generate(GenerateRequest("x", seed=1, max_tokens=9)).result()
    assert await client.detokenize(result.token_ids) == result.text
    with pytest.raises(NotFound, match="model 'gpt' is not served"):
        await client.detokenize((1,), model="gpt")
    with pytest.raises(InvalidArgument, match=r"^a token id in token_ids is 258; it must be under"):
        await client.detokenize((1, VOCABULARY))


async def test_a_model_without_a_tokenizer_takes_no_words(tmp_path: Path) -> None:
    folder = tiny_model(tmp_path)
    (folder / "tokenizer.json").unlink()
    async with (
        servers.target(folder) as target,
        servers.orchestrator([target.address], []) as client,
    ):
        words = GenerateRequest((1, 2), max_tokens=3, bad_words=("no",))
        with pytest.raises(
            FailedPrecondition, match=r"^bad_words: the model has no tokenizer.json"
        ):
            await client.generate(words).result()
        with pytest.raises(
            FailedPrecondition, match=r"^token_ids: the model has no tokenizer.json"
        ):
            await client.detokenize((1, 2))
        ids: dict[str, Any] = {"bad_words_token_ids": ((1,),), "allowed_token_ids": (1, 2)}
        request = GenerateRequest((1, 2), max_tokens=3, sampling=SamplingParams(**ids))
        assert (await client.generate(request).result()).token_ids == (2, 2, 2)


@pytest.mark.parametrize(
    "feature",
    [
        "allowed_token_ids",
        "bad_words",
        "include_stop",
        "skip_special_tokens",
        "truncate_prompt_tokens",
    ],
)
async def test_a_field_that_a_server_does_not_know_can_be_required(
    feature: str, alone: tuple[Client, servers.Server], monkeypatch: pytest.MonkeyPatch
) -> None:
    """An older server leaves it out in silence, unless the client says that it needs it."""
    client, _ = alone
    request = GenerateRequest("x", max_tokens=1, required_features=(feature,))
    assert len((await client.generate(request).result()).token_ids) == 1
    older = tuple(one for one in OF_ORCHESTRATOR if one != feature)
    monkeypatch.setattr("orchestrator.serving.admission.OF_ORCHESTRATOR", older)
    with pytest.raises(FailedPrecondition, match=f"^required_features has '{feature}'; known are"):
        await client.generate(request).result()
