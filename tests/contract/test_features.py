"""Every feature of a request, over real servers: with and without a draft, to the token and letter.

The draft agrees with the target most of the time, so that rounds of five tokens are usual and
what ends an output falls on every place in a round.
"""

import asyncio
import dataclasses
import random
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM

from paceline.client import Choice, Client, Result
from paceline.errors import Aborted
from paceline.protocol.generation import (
    ChatMessage,
    FinishReason,
    GenerateRequest,
    Prompt,
    Speculation,
)
from paceline.protocol.sampling import SamplingParams
from paceline.protocol.verdict import Origin
from paceline.rpc import session_stream
from tests import servers
from tests.tiny_models import EOS, VOCABULARY, perturbed, tiny_model

Running = tuple[Client, servers.Server, servers.Server]
TOKENS = 24
READABLE = dict.fromkeys(range(60, 80), 4.0)
"""A bias towards tokens that are letters, so that texts have characters to stop at."""


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    target = tiny_model(tmp_path_factory.mktemp("target"), "qwen2")
    return target, perturbed(target, tmp_path_factory.mktemp("draft"), 0.08)


@pytest.fixture
async def running(folders: tuple[Path, Path]) -> AsyncIterator[Running]:
    async with (
        servers.target(folders[0]) as target,
        servers.draft(folders[1]) as draft,
        servers.orchestrator([target.address], [draft.address]) as client,
    ):
        yield client, target, draft


def a_request(**fields: Any) -> GenerateRequest:
    sampling = SamplingParams(**{"logit_bias": READABLE, **fields.pop("sampling", {})})
    given = {"prompt": "once upon a time", "seed": 3, "max_tokens": TOKENS, **fields}
    return GenerateRequest(sampling=sampling, **given)


def essence(choice: Choice) -> tuple[object, ...]:
    """All that the law says of an output."""
    finished = choice.finished
    return (
        choice.token_ids,
        [token.text for token in choice.tokens],
        [token.logprobs for token in choice.tokens],
        (finished.finish_reason, finished.stop_string, finished.stop_token_id),
        (finished.usage.prompt_tokens, finished.usage.output_tokens),
    )


async def run(client: Client, request: GenerateRequest, speculation: Speculation) -> Result:
    return await client.generate(dataclasses.replace(request, speculation=speculation)).result()


async def both(client: Client, request: GenerateRequest) -> Result:
    """Forced, having asserted that it is as without a draft."""
    alone = await run(client, request, Speculation.OFF)
    forced = await run(client, request, Speculation.FORCE)
    assert [essence(choice) for choice in forced.choices] == [
        essence(choice) for choice in alone.choices
    ]
    assert forced.prompt_logprobs == alone.prompt_logprobs
    offset = 0
    for delta in forced.deltas:
        assert delta.text_offset == offset
        offset += len(delta.text)
    return forced


async def test_stop_strings_wherever_they_fall_in_a_round(running: Running) -> None:
    client, *_ = running
    whole = await both(client, a_request())
    assert whole.finished.statistics.mean_accepted > 1, "rounds of several tokens"
    for size in (1, 3, 6):
        for start in range(0, len(whole.text) - size, 2):
            stop = whole.text[start : start + size]
            result = await both(client, a_request(stop=("never there", stop)))
            assert result.text == whole.text[: whole.text.index(stop)]
            assert result.finished.stop_string == stop
            assert result.finished.finish_reason is FinishReason.STOP
            ids = result.token_ids
            assert ids == whole.token_ids[: len(ids)]
            statistics = result.finished.statistics
            assert statistics.accepted <= statistics.verified
            assert result.finished.usage.output_tokens == len(ids)


async def test_lengths_and_stop_tokens_wherever_they_fall_in_a_round(running: Running) -> None:
    client, *_ = running
    whole = await both(client, a_request(ignore_eos=True))
    for count in range(1, 14):
        result = await both(client, a_request(max_tokens=count, ignore_eos=True))
        assert result.token_ids == whole.token_ids[:count]
        assert result.finished.finish_reason is FinishReason.LENGTH
        stop = whole.token_ids[count]
        stopped = await both(client, a_request(stop_token_ids=(stop,), ignore_eos=True))
        end = whole.token_ids.index(stop) + 1
        assert stopped.token_ids == whole.token_ids[:end]
        assert stopped.finished.stop_token_id == stop
        assert whole.text.startswith(stopped.text)


@pytest.mark.parametrize("min_tokens", range(0, 9, 2))
async def test_no_end_before_min_tokens(running: Running, min_tokens: int) -> None:
    client, *_ = running
    eager = {"logit_bias": {EOS: 100.0, **READABLE}, "min_tokens": min_tokens}
    result = await both(client, a_request(sampling=eager))
    assert len(result.token_ids) == min_tokens + 1
    assert result.finished.stop_token_id == EOS
    whole = await both(client, a_request())
    letter = whole.text[0]
    late = await both(client, a_request(sampling={"min_tokens": min_tokens}, stop=(letter,)))
    counted = late.choices[0].tokens[: max(0, min_tokens - 1)]
    assert late.text.startswith("".join(token.text for token in counted))
    assert len(late.token_ids) >= min_tokens


async def test_logprobs_are_the_targets_own_whatever_the_origin(
    running: Running, folders: tuple[Path, Path]
) -> None:
    client, *_ = running
    request = a_request(logprobs=3, prompt_logprobs=2, prompt=tuple(range(70)), max_tokens=40)
    result = await both(client, request)
    origins = {token.origin for token in result.choices[0].tokens}
    assert {Origin.ACCEPTED, Origin.RECOVERED} <= origins
    tokens = result.started.prompt_token_ids + result.token_ids
    model = AutoModelForCausalLM.from_pretrained(folders[0], dtype=torch.float64).eval()
    with torch.inference_mode():
        rows = torch.log_softmax(model(torch.tensor([tokens])).logits[0], 1)
    found = [*result.prompt_logprobs, *(token.logprobs for token in result.choices[0].tokens)]
    assert len(found) == len(tokens) - 1
    for position, logprobs in enumerate(found, start=1):
        assert logprobs is not None
        row = rows[position - 1]
        assert logprobs.logprob == pytest.approx(row[tokens[position]].item(), abs=1e-5)
        best = row.topk(len(logprobs.top))
        assert [one.token_id for one in logprobs.top] == best.indices.tolist()
    assert {len(logprobs.top) for logprobs in result.prompt_logprobs} == {2}
    top = [one for token in result.choices[0].tokens for one in token.logprobs.top]  # type: ignore[union-attr]
    assert all(one.text for one in top)


async def test_choices_are_outputs_of_their_own_seeds(running: Running) -> None:
    client, target, draft = running
    request = a_request(n=4, logprobs=0, stop=("e",), prompt="a prompt that is shared by all")
    result = await both(client, request)
    assert len({choice.token_ids for choice in result.choices}) > 1
    assert result.started.seed == 3
    for choice, seed in zip(result.choices, result.started.choice_seeds, strict=True):
        alone = await both(client, dataclasses.replace(request, n=1, seed=seed))
        assert essence(choice) == essence(alone.choices[0])
        assert choice.finished.choice_index == result.choices.index(choice)
    cached = [choice.finished.usage.cached_tokens for choice in result.choices[1:]]
    assert all(cached), "the first choice's prompt is shared"
    await servers.nothing_is_left(target, draft)


async def test_prefixes_are_shared_within_a_salt_and_change_nothing(running: Running) -> None:
    client, *_ = running
    prompt = "a system prompt of some length, the same for all. "
    first = await run(client, a_request(prompt=prompt + "one"), Speculation.OFF)
    again = await both(client, a_request(prompt=prompt + "one"))
    other = await run(client, a_request(prompt=prompt + "two"), Speculation.FORCE)
    apart = await run(client, a_request(prompt=prompt + "one", cache_salt="x"), Speculation.OFF)
    assert first.finished.usage.cached_tokens == apart.finished.usage.cached_tokens == 0
    assert again.finished.usage.cached_tokens == len(prompt + "one") - 1
    assert len(prompt) <= other.finished.usage.cached_tokens <= len(prompt) + 1
    assert again.token_ids == first.token_ids == apart.token_ids


async def test_a_call_that_resumes_a_running_one_ends_it(running: Running) -> None:
    client, *_ = running
    request = a_request(ignore_eos=True, max_tokens=900)
    generation = client.generate(request, request_id="same")
    deltas = aiter(generation)
    delta = await anext(deltas)
    assert generation.started is not None
    resumed = client.generate(
        dataclasses.replace(
            request,
            prompt=generation.started.prompt_token_ids,
            output_token_ids=tuple(token.id for token in delta.tokens),
        ),
        request_id="same",
    )
    await anext(aiter(resumed))
    with pytest.raises(Aborted, match="resumed by another call"):
        async for _ in deltas:
            pass
    resumed.cancel()


def a_random_request(rng: random.Random) -> GenerateRequest:
    prompts: list[Prompt] = [
        "shared beginning of a prompt, then " + "x" * rng.randrange(9),
        tuple(rng.randrange(VOCABULARY - 2) for _ in range(rng.randrange(1, 200))),
        (ChatMessage("system", "be brief"), ChatMessage("user", "hi " * rng.randrange(1, 9))),
    ]
    return GenerateRequest(
        prompt=rng.choice(prompts),
        sampling=SamplingParams(
            temperature=rng.choice([0.0, 0.7, 1.3]),
            top_p=rng.choice([1.0, 0.9]),
            top_k=rng.choice([0, 20]),
            frequency_penalty=rng.choice([0.0, 0.5]),
            repetition_penalty=rng.choice([1.0, 1.2]),
            logit_bias=rng.choice([{}, READABLE]),
            min_tokens=rng.choice([0, 5]),
        ),
        seed=rng.getrandbits(64),
        max_tokens=rng.randrange(1, 60),
        n=rng.choice([1, 1, 1, 3]),
        ignore_eos=rng.random() < 0.3,
        stop=rng.choice([(), ("c", "zz"), ("ab", "ba")]),
        stop_token_ids=rng.choice([(), (65,)]),
        logprobs=rng.choice([None, None, 2]),
        prompt_logprobs=rng.choice([None, None, None, 1]),
        priority=rng.randrange(-2, 3),
        cache_salt=rng.choice(["", "", "mine"]),
    )


async def test_many_streams_that_join_leave_and_cancel_are_each_as_alone(
    running: Running,
) -> None:
    client, target, draft = running
    rng = random.Random(32)
    requests = [a_random_request(rng) for _ in range(32)]
    alone = [await run(client, request, Speculation.OFF) for request in requests]

    async def joined(request: GenerateRequest, expected: Result) -> None:
        await asyncio.sleep(rng.random() * 0.5)
        speculation = rng.choice(list(Speculation))
        result = await run(client, request, speculation)
        assert [essence(one) for one in result.choices] == [
            essence(one) for one in expected.choices
        ]
        assert result.prompt_logprobs == expected.prompt_logprobs

    async def left(request: GenerateRequest) -> None:
        await asyncio.sleep(rng.random() * 0.5)
        generation = client.generate(dataclasses.replace(request, ignore_eos=True))
        async for _ in generation:
            break

    async with asyncio.TaskGroup() as tasks:
        for request, expected in zip(requests, alone, strict=True):
            tasks.create_task(joined(request, expected))
        for request in requests[::3]:
            tasks.create_task(left(request))
    await servers.nothing_is_left(target, draft)
    await servers.eventually(no_streams_are_left)


async def no_streams_are_left() -> bool:
    """No task of a stream is left over."""
    names = [str(task.get_coro()) for task in asyncio.all_tasks()]
    return not any("Choices" in name or "DraftLink" in name for name in names)


async def test_a_session_of_which_much_waits_pauses_and_loses_nothing(
    folders: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Room for one answer at a time: each step waits until the one before has gone."""
    request = GenerateRequest(
        (1, 2, 3) * 60,
        max_tokens=40,
        ignore_eos=True,
        seed=1,
        prompt_logprobs=2,
        speculation=Speculation.OFF,
    )
    async with (
        servers.target(folders[0]) as target,
        servers.orchestrator([target.address], []) as client,
    ):
        expected = await client.generate(request).result()
        monkeypatch.setattr(session_stream, "MOST_WAITING", 1)
        found = await client.generate(request).result()
    assert found.token_ids == expected.token_ids
    assert found.prompt_logprobs == expected.prompt_logprobs
    assert len(found.prompt_logprobs) == 180 - 1
