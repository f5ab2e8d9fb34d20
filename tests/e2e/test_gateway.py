"""OpenAI's own client, through the real smg gateway, to SmolLM2-135M behind two orchestrators.

One gateway stands before two orchestrators that share a target and a draft, another before one
that has the target alone. What the one answers the other answers, too: a draft changes no text.
"""

import asyncio
import contextlib
import json
import re
import signal
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pytest

openai = pytest.importorskip("openai", reason="it comes with the e2e extra")
pytest.importorskip("smg", reason="it comes with the e2e extra")
jsonschema = pytest.importorskip("jsonschema")

from paceline.client import Client  # noqa: E402
from paceline.engine.torch.model_folder import resolve_model  # noqa: E402
from paceline.protocol.constraint import json_schema  # noqa: E402
from paceline.protocol.generation import Chat, GenerateRequest, Speculation  # noqa: E402
from paceline.protocol.sampling import Sampling  # noqa: E402
from paceline.protocol.status import PoolState, Role  # noqa: E402
from tests import gateways, processes  # noqa: E402
from tests.e2e.test_small_model import model, up  # noqa: E402, F401 - a fixture
from tests.servers import eventually  # noqa: E402

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(900)]  # the first starts a fleet, too
MODEL, POSITIONS = "smollm2-135m", 512
GUESSED_SECONDS = 200.0
STORY = "Tell a very short story about a cyclist in the rain."
BEGUN = "Once upon a time there was a cyclist who"
CHAT: list[dict[str, str]] = [{"role": "user", "content": STORY}]
SCHEMA = {
    "type": "object",
    "properties": {
        "city": {"enum": ["Oslo", "Lima", "Accra"]},
        "days": {"type": "integer", "minimum": 1, "maximum": 99},
    },
    "required": ["city", "days"],
    "additionalProperties": False,
}
TOOLS = [
    {
        "type": "function",
        "function": {"name": name, "description": f"The {name} of a city.", "parameters": SCHEMA},
    }
    for name in ("heat", "rain")
]
GREEDY: dict[str, Any] = {"temperature": 0.0, "max_tokens": 32}
DRAWN: dict[str, Any] = {"temperature": 0.8, "top_p": 0.95, "max_tokens": 32}


@dataclass
class Fleet:
    """Addresses: of the OpenAI doors with and without drafts, of engines and orchestrators."""

    fast: str
    plain: str
    target: str
    draft: str
    orchestrators: list[str]


@pytest.fixture(scope="module")
def fleet(model: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:  # noqa: F811
    folder = tmp_path_factory.mktemp("fleet")
    target, draft = engines(folder, shortened(resolve_model(model), tmp_path_factory.mktemp("m")))
    with contextlib.ExitStack() as stack:
        stack.enter_context(gateways.ended(target.popen, draft.popen))
        pair = stack.enter_context(two_orchestrators(folder, target.address, draft.address))
        alone = stack.enter_context(gateways.orchestrator(folder, "alone", [target.address], []))
        fast = stack.enter_context(gateways.gateway(folder, "fast", pair))
        plain = stack.enter_context(gateways.gateway(folder, "plain", [alone]))
        addresses = [one.address for one in pair]
        asyncio.run(drafts_are_there(addresses))
        yield Fleet(fast, plain, target.address, draft.address, addresses)


def engines(folder: Path, short: Path) -> tuple[processes.Process, processes.Process]:
    """A target, and a draft that is the same model in 4 bits."""
    flags = [f"--model={short}", f"--model-name={MODEL}", "--threads=1", "--dtype=bfloat16"]
    flags += ["--kv-tokens=32768"]
    target = processes.start(folder, "target", "target_server", *flags)
    flags += ["--weights=int4", "--drafter=hybrid"]
    return target, processes.start(folder, "draft", "draft_server", *flags)


@contextlib.contextmanager
def two_orchestrators(
    folder: Path, target: str, draft: str
) -> Iterator[list[gateways.Orchestrator]]:
    with (
        gateways.orchestrator(folder, "one", [target], [draft]) as one,
        gateways.orchestrator(folder, "two", [target], [draft]) as two,
    ):
        yield [one, two]


def shortened(original: Path, folder: Path) -> Path:
    """The model with fewer positions, so that a context is quickly full."""
    for file in original.iterdir():
        if file.name != "config.json":
            (folder / file.name).symlink_to(file)
    config = json.loads((original / "config.json").read_text())
    config["max_position_embeddings"] = POSITIONS
    (folder / "config.json").write_text(json.dumps(config))
    return folder


async def drafts_are_there(addresses: list[str]) -> None:
    for address in addresses:
        async with Client(address) as client:
            await eventually(partial(has_draft, client), gateways.READY_SECONDS)


async def has_draft(client: Client) -> bool:
    return any(one.drafts for one in await client.models())


@contextlib.asynccontextmanager
async def asking(address: str) -> AsyncIterator[Any]:
    async with openai.AsyncOpenAI(base_url=address, api_key="none", max_retries=0) as client:
        yield client


@pytest.fixture
async def fast(fleet: Fleet) -> AsyncIterator[Any]:
    async with asking(fleet.fast) as client:
        yield client


@pytest.fixture
async def plain(fleet: Fleet) -> AsyncIterator[Any]:
    async with asking(fleet.plain) as client:
        yield client


async def chat(client: Any, **fields: Any) -> Any:
    return await client.chat.completions.create(**{"model": MODEL, "messages": CHAT, **fields})


async def completion(client: Any, **fields: Any) -> Any:
    return await client.completions.create(**{"model": MODEL, "prompt": BEGUN, **fields})


def said(choice: Any) -> str:
    """Of a chat or a completion, whole."""
    return str(choice.message.content if hasattr(choice, "message") else choice.text)


async def streamed(stream: Any) -> tuple[str, str, Any]:
    """Text, finish reason and usage."""
    text, reason, usage = "", "", None
    async for chunk in stream:
        usage = chunk.usage or usage
        for choice in chunk.choices:
            part = choice.delta.content if hasattr(choice, "delta") else choice.text
            text, reason = text + (part or ""), choice.finish_reason or reason
    return text, reason, usage


@pytest.mark.parametrize("ask", [chat, completion])
@pytest.mark.parametrize("sampling", [GREEDY, {**DRAWN, "seed": 5}, {**DRAWN, "seed": -7}])
async def test_a_text_is_the_same_streamed_or_whole_with_drafts_or_without(
    fast: Any, plain: Any, ask: Any, sampling: dict[str, Any]
) -> None:
    texts, counts = set(), set()
    for client in (fast, plain):
        whole = await ask(client, **sampling)
        stream = await ask(client, stream=True, stream_options={"include_usage": True}, **sampling)
        text, reason, usage = await streamed(stream)
        [choice] = whole.choices
        texts |= {said(choice), text}
        assert choice.finish_reason == reason
        for one in (whole.usage, usage):
            counts.add((one.prompt_tokens, one.completion_tokens))
    assert len(texts) == len(counts) == 1
    assert len(texts.pop()) > 20


def guesses(usage: Any) -> int:
    """Accepted and rejected prediction tokens."""
    details = usage.completion_tokens_details
    if details is None:
        return 0
    return (details.accepted_prediction_tokens or 0) + (details.rejected_prediction_tokens or 0)


async def test_usage_tells_of_guesses_that_changed_nothing(fast: Any, plain: Any) -> None:
    """Whether an answer has guesses is decided by their speed: one has, sooner or later."""
    alone = await completion(plain, **GREEDY)
    assert guesses(alone.usage) == 0

    async def guessed() -> bool:
        answer = await completion(fast, **GREEDY)
        assert said(answer.choices[0]) == said(alone.choices[0])
        assert guesses(answer.usage) <= 16 * answer.usage.completion_tokens
        return guesses(answer.usage) > 0

    await eventually(guessed, GUESSED_SECONDS)


@pytest.mark.parametrize("ask", [chat, completion])
async def test_a_stop_string_ends_the_text_and_the_work(fast: Any, ask: Any) -> None:
    free = await ask(fast, **GREEDY)
    text = said(free.choices[0])
    stop = text[30:34]
    ended = await ask(fast, stop=[stop], **GREEDY)
    assert said(ended.choices[0]) == text[: text.index(stop)]
    assert ended.choices[0].finish_reason == "stop"
    assert ended.usage.completion_tokens < free.usage.completion_tokens
    stream = await ask(fast, stop=[stop], stream=True, **GREEDY)
    assert (await streamed(stream))[:2] == (text[: text.index(stop)], "stop")


async def test_logprobs_are_of_the_tokens_of_the_text(fast: Any, plain: Any) -> None:
    found = []
    for client in (fast, plain):
        [choice] = (await chat(client, logprobs=True, top_logprobs=3, **GREEDY)).choices
        tokens = choice.logprobs.content
        assert "".join(one.token for one in tokens) == choice.message.content
        for one in tokens:
            assert len(one.top_logprobs) == 3
            assert one.logprob == max(best.logprob for best in one.top_logprobs) <= 0
        found.append([(one.token, one.logprob) for one in tokens])
    assert found[0] == found[1]


async def called(client: Any, choice: Any, **fields: Any) -> tuple[str, str] | None:
    """Name and arguments of the first call; None where the output was cut before its end."""
    answer = await chat(client, tools=TOOLS, tool_choice=choice, max_tokens=128, **fields)
    if answer.choices[0].finish_reason == "length":
        return None
    function = answer.choices[0].message.tool_calls[0].function
    return function.name, function.arguments


async def test_a_named_tool_is_called_by_its_schema(fast: Any, plain: Any) -> None:
    choice = {"type": "function", "function": {"name": "rain"}}
    calls = [await called(client, choice, temperature=0) for client in (fast, plain)]
    assert calls[0] == calls[1]
    assert calls[0] is not None
    name, arguments = calls[0]
    assert name == "rain"
    jsonschema.validate(json.loads(arguments), SCHEMA)


async def test_some_tool_that_must_be_called_is_called_by_its_schema(fast: Any, plain: Any) -> None:
    """The gateway's own schema closes neither the list of calls nor a call: a model this small may
    write on and on, so it is drawn again until it has come to an end."""
    for seed in range(12):
        fields = {"temperature": 1.0, "seed": seed}
        calls = [await called(client, "required", **fields) for client in (fast, plain)]
        assert calls[0] == calls[1]
        if calls[0] is not None:
            break
    assert calls[0] is not None
    assert calls[0][0] in {"heat", "rain"}
    jsonschema.validate(json.loads(calls[0][1]), SCHEMA)


async def test_a_tool_that_may_be_called_binds_nothing(fast: Any) -> None:
    answer = await chat(fast, tools=TOOLS, tool_choice="auto", **GREEDY)
    message = answer.choices[0].message
    assert message.content or message.tool_calls


CALL = (
    r'<tool_call>\n\{"name": "rain", "arguments": \{"city": "(Oslo|Lima)", "days": [1-9]\}\}'
    r"\n</tool_call>"
)
"""As the parser of Qwen's models reads it; a model this small writes it when it has to."""
TWO_CALLS: dict[str, Any] = {
    "tools": TOOLS,
    "tool_choice": "auto",
    "temperature": 0,
    "max_tokens": 128,
    "extra_body": {"regex": f"{CALL}\n{CALL}"},
}
NAMED: dict[str, Any] = {
    "tools": TOOLS,
    "tool_choice": {"type": "function", "function": {"name": "rain"}},
    "temperature": 0,
    "max_tokens": 128,
}
Calls = dict[int, tuple[str, str]]


def whole_calls(answer: Any) -> Calls:
    """Name and arguments of each."""
    calls = enumerate(answer.choices[0].message.tool_calls)
    return {index: (one.function.name, one.function.arguments) for index, one in calls}


def values(calls: Calls) -> list[tuple[str, Any]]:
    """Names, and what the arguments say."""
    return [(name, json.loads(arguments)) for name, arguments in calls.values()]


async def streamed_calls(stream: Any) -> tuple[Calls, str]:
    """As of whole_calls, put together, and the finish reason."""
    calls: Calls = {}
    reason = ""
    async for chunk in stream:
        for choice in chunk.choices:
            reason = choice.finish_reason or reason
            for one in choice.delta.tool_calls or ():
                name, arguments = calls.get(one.index, ("", ""))
                function = one.function
                calls[one.index] = (
                    name + (function.name or ""),
                    arguments + (function.arguments or ""),
                )
    return calls, reason


async def test_two_calls_that_a_model_writes_by_itself_are_read_from_its_text(
    fast: Any, plain: Any
) -> None:
    answers = [await chat(client, **TWO_CALLS) for client in (fast, plain)]
    calls = whole_calls(answers[0])
    assert calls == whole_calls(answers[1])
    assert [name for name, _ in calls.values()] == ["rain", "rain"]
    for _, arguments in calls.values():
        jsonschema.validate(json.loads(arguments), SCHEMA)
    assert len({one.id for one in answers[0].choices[0].message.tool_calls}) == 2
    assert answers[0].choices[0].finish_reason == "tool_calls"


async def test_of_two_calls_the_first_is_kept_where_one_is_asked_for(fast: Any) -> None:
    both = whole_calls(await chat(fast, **TWO_CALLS))
    assert whole_calls(await chat(fast, parallel_tool_calls=False, **TWO_CALLS)) == {0: both[0]}


@pytest.mark.parametrize("fields", [NAMED, TWO_CALLS], ids=["named", "two"])
async def test_streamed_pieces_of_calls_are_the_whole_calls(
    fast: Any, plain: Any, fields: dict[str, Any]
) -> None:
    """As values: the gateway writes the arguments of a named tool anew where they come whole."""
    whole = await chat(fast, **fields)
    for client in (fast, plain):
        calls, reason = await streamed_calls(await chat(client, stream=True, **fields))
        assert values(calls) == values(whole_calls(whole))
        assert reason == whole.choices[0].finish_reason == "tool_calls"


async def test_what_a_tool_said_is_answered_in_text(fast: Any, plain: Any) -> None:
    asked = await chat(fast, **NAMED)
    [call] = asked.choices[0].message.tool_calls
    heard = {"role": "tool", "tool_call_id": call.id, "content": "20 mm"}
    said_before = {"role": "assistant", "tool_calls": [call.model_dump()], "content": ""}
    fields = {"messages": [*CHAT, said_before, heard], "tools": TOOLS, **GREEDY}
    texts = {said((await chat(client, **fields)).choices[0]) for client in (fast, plain)}
    assert len(texts) == 1
    assert texts.pop()


REASONED: dict[str, Any] = {
    "extra_body": {"regex": "<think>[a-z]{4}</think>[a-z]{4}"},
    **GREEDY,
}


async def test_reasoning_is_told_from_the_answer(fast: Any) -> None:
    message = (await chat(fast, **REASONED)).choices[0].message
    assert re.fullmatch("[a-z]{4}", message.reasoning_content)
    assert re.fullmatch("[a-z]{4}", message.content)


async def test_streamed_reasoning_and_answer_are_those_of_the_whole(fast: Any) -> None:
    """All text comes, in order. Where smg cuts it depends on how the end tag lies in its pieces."""
    message = (await chat(fast, **REASONED)).choices[0].message
    reasoning = text = ""
    async for chunk in await chat(fast, stream=True, **REASONED):
        for choice in chunk.choices:
            reasoning += getattr(choice.delta, "reasoning_content", None) or ""
            text += choice.delta.content or ""
    streamed = (reasoning + text).replace("</think>", "")
    assert streamed == message.reasoning_content + message.content


FORMATS = {
    "json_object": ({"type": "json_object"}, {"type": "object"}),
    "json_schema": (
        {"type": "json_schema", "json_schema": {"name": "x", "schema": SCHEMA, "strict": True}},
        SCHEMA,
    ),
}


@pytest.mark.parametrize("name", FORMATS)
async def test_a_response_format_holds_and_changes_nothing_with_drafts(
    fast: Any, plain: Any, name: str
) -> None:
    asked, schema = FORMATS[name]
    texts = set()
    for client in (fast, plain):
        answer = await chat(client, response_format=asked, temperature=0.7, seed=3, max_tokens=96)
        texts.add(said(answer.choices[0]))
        if answer.choices[0].finish_reason == "stop":
            jsonschema.validate(json.loads(said(answer.choices[0])), schema)
        else:
            assert name == "json_object", "only that has no end of its own"
    assert len(texts) == 1


@pytest.mark.parametrize("speculation", [Speculation.OFF, Speculation.FORCE])
async def test_a_format_gives_the_text_of_our_own_client_off_and_forced(
    fleet: Fleet, fast: Any, speculation: Speculation
) -> None:
    """No gateway can force drafts, so the forced text is asked for at our own door."""
    answer = await chat(fast, response_format=FORMATS["json_schema"][0], seed=3, **DRAWN)
    request = GenerateRequest(
        Chat(CHAT),
        sampling=Sampling(temperature=0.8, top_p=0.95, constraint=json_schema(SCHEMA)),
        seed=3,
        max_tokens=DRAWN["max_tokens"],
        speculation=speculation,
    )
    async with Client(fleet.orchestrators[0]) as client:
        result = await client.generate(request).result()
    assert result.text == said(answer.choices[0])
    jsonschema.validate(json.loads(result.text), SCHEMA)
    assert (result.finished.statistics.verified > 0) is (speculation is Speculation.FORCE)


async def test_a_regex_of_the_gateways_extension_holds(fast: Any) -> None:
    answer = await chat(fast, extra_body={"regex": "[a-f]{4}-[0-9]{2}"}, **GREEDY)
    assert re.fullmatch("[a-f]{4}-[0-9]{2}", said(answer.choices[0]))


async def test_a_schema_that_cannot_be_held_is_a_bad_request_that_names_the_keyword(
    fast: Any,
) -> None:
    schema = {"type": "array", "items": {"type": "integer"}, "uniqueItems": True}
    asked = {"type": "json_schema", "json_schema": {"name": "x", "schema": schema}}
    with pytest.raises(openai.BadRequestError, match="uniqueItems"):
        await chat(fast, response_format=asked, **GREEDY)


async def test_a_prompt_beyond_the_context_is_refused_and_an_output_beyond_it_is_cut(
    fast: Any,
) -> None:
    with pytest.raises(openai.BadRequestError, match="context"):
        await completion(fast, prompt="word " * (POSITIONS + 1), max_tokens=1)
    answer = await completion(fast, prompt="word " * (POSITIONS - 12), max_tokens=400)
    assert answer.choices[0].finish_reason == "length"
    assert answer.usage.total_tokens <= POSITIONS


async def test_a_repetition_penalty_of_nothing_is_none(fast: Any) -> None:
    neutral = await chat(fast, **GREEDY)
    zero = await chat(fast, extra_body={"repetition_penalty": 0}, **GREEDY)
    assert said(zero.choices[0]) == said(neutral.choices[0])


async def sessions(fleet: Fleet) -> dict[Role, int]:
    """That engines hold open, as an orchestrator hears of them."""
    async with Client(fleet.orchestrators[0]) as client:
        status = await client.status()
    return {one.role: one.load.sessions for one in status.servers}


async def test_a_client_that_leaves_frees_target_and_draft(fleet: Fleet, fast: Any) -> None:
    async def free() -> bool:
        return not any((await sessions(fleet)).values())

    await eventually(free)
    stream = await chat(
        fast, stream=True, temperature=0, max_tokens=400, extra_body={"ignore_eos": True}
    )
    async for _ in stream:
        break
    await eventually(partial(held, fleet))
    await stream.close()
    await eventually(free)


async def held(fleet: Fleet) -> bool:
    """A stream has none on a draft that is benched, before it probes."""
    async with Client(fleet.orchestrators[0]) as client:
        [pool] = (await client.status()).draft_pools
    found = await sessions(fleet)
    return found[Role.TARGET] > 0 and (found[Role.DRAFT] > 0 or pool.state is not PoolState.IN_USE)


async def test_a_stream_outlives_another_of_its_request_id(fast: Any) -> None:
    fields = {"stream": True, "temperature": 0, "max_tokens": 64}
    body = {"rid": "the same", "ignore_eos": True}
    expected, _, _ = await streamed(await chat(fast, extra_body={"ignore_eos": True}, **fields))
    streams = [await chat(fast, extra_body=body, **fields) for _ in range(4)]
    for stream in streams[:2]:
        async for _ in stream:
            break
        await stream.close()
    for stream in streams[2:]:
        assert (await streamed(stream))[0] == expected


async def test_many_streams_use_both_orchestrators_and_none_is_wrong(
    fleet: Fleet, fast: Any, plain: Any
) -> None:
    before = await totals(fleet)
    asked = [{**DRAWN, "max_tokens": 12, "seed": seed} for seed in range(8)]
    expected = [said((await chat(plain, **one)).choices[0]) for one in asked]

    async def text(fields: dict[str, Any]) -> str:
        return (await streamed(await chat(fast, stream=True, **fields)))[0]

    assert await asyncio.gather(*map(text, asked * 4)) == expected * 4
    used = [after - first for after, first in zip(await totals(fleet), before, strict=True)]
    assert sum(used) == 32
    assert min(used) >= 8


async def totals(fleet: Fleet) -> list[int]:
    """Streams that each orchestrator had."""
    counts = []
    for address in fleet.orchestrators:
        async with Client(address) as client:
            counts.append((await client.status()).totals.streams)
    return counts


async def test_an_orchestrator_that_dies_is_not_missed(
    fleet: Fleet, tmp_path: Path, plain: Any
) -> None:
    expected = said((await chat(plain, **GREEDY)).choices[0])
    with (
        two_orchestrators(tmp_path, fleet.target, fleet.draft) as behind,
        gateways.gateway(tmp_path, "gateway", behind) as address,
    ):
        async with asking(address) as client:
            assert said((await chat(client, **GREEDY)).choices[0]) == expected
            behind[0].popen.kill()
            behind[0].popen.wait()
            for _ in range(4):
                assert said((await chat(client, **GREEDY)).choices[0]) == expected


async def test_openais_responses_and_anthropics_messages_answer(fast: Any) -> None:
    response = await fast.responses.create(model=MODEL, input=STORY, max_output_tokens=16)
    assert response.output_text
    body = {"model": MODEL, "max_tokens": 16, "messages": CHAT}
    message = await fast.post("/messages", body=body, cast_to=object)
    assert message["role"] == "assistant"
    assert message["content"][0]["text"]
    assert message["usage"]["output_tokens"] > 0


async def test_up_starts_a_gateway_and_says_where_it_is(
    model: str,  # noqa: F811
    tmp_path: Path,
) -> None:
    log = tmp_path / "up.log"
    async with up(log, "--gateway", f"--target={model}", "--draft=lookup=ngram") as process:
        await eventually(partial(says, log, "OpenAI clients: "), gateways.READY_SECONDS)
        [address] = re.findall(r"OpenAI clients: (http://\S+/v1)", log.read_text())
        async with asking(address) as client:
            assert said((await chat(client, **GREEDY)).choices[0])
        process.send_signal(signal.SIGINT)
        assert await process.wait() == 0


async def says(log: Path, text: str) -> bool:
    return text in log.read_text()
