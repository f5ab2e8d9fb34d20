"""What a caller gives is what is sent, or the field of a wrong type is named."""

import re
from collections.abc import Callable, Iterator
from dataclasses import fields, replace
from typing import Any

import numpy as np
import pytest

from paceline.client import Client, SyncClient
from paceline.client.request import as_prompt, as_request
from paceline.errors import InvalidArgument
from paceline.protocol.constraint import Constraint
from paceline.protocol.generation import Chat, ChatMessage, GenerateRequest, Speculation
from paceline.protocol.sampling import Sampling, SamplingParams
from tests.unit.rpc.test_generation_codec import EVERY_FIELD

USER = {"role": "user", "content": "Hi"}
CALL = {"id": "1", "type": "function", "function": {"name": "f", "arguments": "{}"}}
TEXTS = "it must be text or a list of texts"
HALF: Any = np.float32(0.5)
PROMPTS = "text, token ids or a list of messages"
WHOLE = "it must be a whole number"


def test_what_is_right_is_sent_as_it_is() -> None:
    request = as_request(EVERY_FIELD)
    assert replace(request, required_features=EVERY_FIELD.required_features) == EVERY_FIELD
    assert as_request("x") == GenerateRequest("x")


SAME: dict[str, tuple[Any, Any]] = {
    "stop": ("end", ("end",)),
    "bad_words": ("no", ("no",)),
    "stop_token_ids": (np.array([1, 2]), (1, 2)),
    "output_token_ids": ([np.int64(1)], (1,)),
    "max_tokens": (np.int32(5), 5),
    "seed": (np.uint64(2**63), 2**63),
    "speculation": ("off", Speculation.OFF),
    "sampling": (Sampling(temperature=HALF), Sampling(temperature=0.5)),
    "prompt": ([USER], Chat((ChatMessage("user", "Hi"),))),
}


@pytest.mark.parametrize("field", SAME)
def test_what_means_the_same_is_the_same(field: str) -> None:
    given, meant = SAME[field]
    request = as_request(GenerateRequest(**{"prompt": "x", field: given}))
    assert getattr(request, field) == meant
    assert type(getattr(request, field)) is type(meant)


@pytest.mark.parametrize("prompt", [(1, 2), [1, 2], np.array([1, 2]), range(1, 3), iter((1, 2))])
def test_token_ids_of_any_kind_are_token_ids(prompt: Any) -> None:
    assert as_prompt(prompt) == (1, 2)


def test_messages_are_taken_as_openai_has_them() -> None:
    chat = as_prompt(
        [
            {"role": "system", "content": [{"type": "text", "text": t} for t in ("a", "b")]},
            ChatMessage("user", "Hi"),
            {"role": "assistant", "content": None, "tool_calls": [CALL], "refusal": None},
            {"role": "tool", "content": "1", "tool_call_id": "1", "name": "f"},
        ]
    )
    assert chat == Chat(
        (
            ChatMessage("system", "a\nb"),
            ChatMessage("user", "Hi"),
            ChatMessage("assistant", None, tool_calls=(CALL,)),
            ChatMessage("tool", "1", name="f", tool_call_id="1"),
        )
    )
    told = Chat([USER], tools=[{"type": "function"}], chat_template_kwargs={"thinking": False})
    assert as_prompt(told) == replace(
        told, messages=(ChatMessage("user", "Hi"),), tools=tuple(told.tools)
    )


def failing() -> Iterator[int]:
    yield 1
    raise KeyError("tulips")


class Hostile:
    """Fails whatever is done with it."""

    def __index__(self) -> int:
        raise KeyError("tulips")

    def __repr__(self) -> str:
        raise KeyError("tulips")


HOSTILE: Any = Hostile()


def a_chat(**given: Any) -> Callable[[], GenerateRequest]:
    return lambda: GenerateRequest(Chat(**{"messages": [USER], **given}))


def message(**given: Any) -> Callable[[], GenerateRequest]:
    return lambda: GenerateRequest([USER, {"role": "user", "content": "tulips", **given}])


def field(**given: Any) -> Callable[[], GenerateRequest]:
    return lambda: GenerateRequest(**{"prompt": "tulips", **given})


def sampling(**given: Any) -> Callable[[], GenerateRequest]:
    return lambda: GenerateRequest("tulips", sampling=SamplingParams(**given))


WRONG = {
    f"max_tokens is '5'; {WHOLE}": field(max_tokens="5"),
    f"max_tokens is 5.0; {WHOLE}": field(max_tokens=5.0),
    f"n is True; {WHOLE}": field(n=True),
    f"n is None; {WHOLE}": field(n=None),
    f"seed is 'a'; {WHOLE}": field(seed="a"),
    "seed is -1; it must be a whole number from 0 to 18446744073709551615": field(seed=-1),
    f"priority is [1]; {WHOLE}": field(priority=[1]),
    f"logprobs is True; {WHOLE}": field(logprobs=True),
    f"prompt_logprobs is '1'; {WHOLE}": field(prompt_logprobs="1"),
    f"truncate_prompt_tokens is '1'; {WHOLE}": field(truncate_prompt_tokens="1"),
    "stop_token_ids is of type str; it must be a list of whole numbers": field(stop_token_ids="ab"),  # noqa: S106
    "stop_token_ids is of type int; it must be a list of whole numbers": field(stop_token_ids=5),
    f"output_token_ids is 1.5; {WHOLE}": field(output_token_ids=[1.5]),
    "ignore_eos is 'no'; it must be True or False": field(ignore_eos="no"),
    "include_stop is 1; it must be True or False": field(include_stop=1),
    "skip_special_tokens is None; it must be True or False": field(skip_special_tokens=None),
    "speculation is 'often'; it must be one of 'off', 'auto', 'force'": field(speculation="often"),
    "model is of type int; it must be text": field(model=5),
    "model is None; it must be text": field(model=None),
    "fingerprint is of type bytes; it must be text": field(fingerprint=b"x"),
    "cache_salt is of type bytes; it must be text": field(cache_salt=b"x"),
    f"stop is of type bytes; {TEXTS}": field(stop=b"tulips"),
    f"stop is None; {TEXTS}": field(stop=None),
    f"stop has a value of type bytes; {TEXTS}": field(stop=["a", b"tulips"]),
    f"bad_words has a value of type int; {TEXTS}": field(bad_words=[1]),
    f"required_features is of type int; {TEXTS}": field(required_features=1),
    "sampling is of type dict; it must be a Sampling": field(sampling={"temperature": 1}),
    "sampling is None; it must be a Sampling": field(sampling=None),
    "sampling.temperature is '1'; it must be a number": sampling(temperature="1"),
    "sampling.top_p is True; it must be a number": sampling(top_p=True),
    f"sampling.top_k is 5.5; {WHOLE}": sampling(top_k=5.5),
    f"sampling.min_tokens is None; {WHOLE}": sampling(min_tokens=None),
    "sampling.logit_bias is of type list; it must be a mapping of": sampling(logit_bias=[1]),
    f"a token id in sampling.logit_bias is '5'; {WHOLE}": sampling(logit_bias={"5": 1}),
    "sampling.logit_bias[5] is '1'; it must be a number": sampling(logit_bias={5: "1"}),
    f"sampling.allowed_token_ids is 'a'; {WHOLE}": sampling(allowed_token_ids=["a"]),
    f"sampling.bad_words_token_ids[0] is 'a'; {WHOLE}": sampling(bad_words_token_ids=[["a"]]),
    "sampling.constraint is of type str; it must be a Constraint": sampling(constraint="a"),
    "sampling.constraint.kind is 'yaml'; it must be one of": sampling(
        constraint=Constraint("yaml")  # type: ignore[arg-type]
    ),
    f"prompt is of type int; it must be {PROMPTS}": field(prompt=5),
    f"prompt is None; it must be {PROMPTS}": field(prompt=None),
    f"prompt is of type bytes; it must be {PROMPTS}": field(prompt=b"tulips"),
    f"prompt is of type dict; it must be {PROMPTS}": field(prompt=USER),
    f"prompt is a list of texts; it must be one prompt: {PROMPTS}": field(prompt=["tulips", "b"]),
    f"a token id in prompt is 1.5; {WHOLE}": field(prompt=[1, 1.5]),
    "prompt[1] is of type int; it must be a message, as the others": field(prompt=[USER, 5]),
    f"prompt raised KeyError as it was read; it must be {PROMPTS}": field(prompt=failing()),
    f"prompt raised TypeError as it was read; it must be {PROMPTS}": field(prompt=np.array(1)),
    f"stop raised KeyError as it was read; {TEXTS}": field(stop=failing()),
    "prompt.tools raised KeyError as it was read; it must be a list": a_chat(tools=failing()),
    "max_tokens is <tests.unit.client.test_request.Hostile object at 0x": field(max_tokens=HOSTILE),
    "a token id in prompt is <tests.unit.client.test_request.Hostile": field(prompt=[HOSTILE]),
    "speculation is <tests.unit.client.test_request.Hostile": field(speculation=HOSTILE),
    "max_tokens is <int object at 0x": field(max_tokens=10**5000),
    "sampling.logit_bias[1] is <tests.unit": sampling(logit_bias={1: HOSTILE}),
    "n is 1000000000; it must be from 1 to 16": field(n=10**9),
    "prompt[1] has no role; it must be one, as user or assistant": message(role=None),
    "prompt[1].role is of type int; it must be text": message(role=5),
    "prompt[1] has no content; it must be text, or a list of text parts; only a message with "
    "tool_calls goes without": message(content=None),
    "prompt[1].content is of type bytes; it must be text, or a": message(content=b"tulips"),
    "prompt[1].content[0] is of type str; it must be an object of type 'text'": message(
        content=["tulips"]
    ),
    "prompt[1].content[1] has the type 'image_url'; only 'text' is taken": message(
        content=[{"type": "text", "text": "tulips"}, {"type": "image_url", "image_url": "tulips"}]
    ),
    "prompt[1].content[0].text is None; it must be text": message(content=[{"type": "text"}]),
    "prompt[1] has 'contnet'; a message has role, content, name, tool_calls, tool_call_id, "
    "reasoning_content": message(contnet="tulips"),
    "prompt[1].name is of type int; it must be text": message(name=5),
    "prompt[1].tool_calls is of type dict; it must be a list": message(tool_calls=CALL),
    "prompt[1].tool_calls[0] is of type str; it must be a mapping by names": message(
        tool_calls=["tulips"]
    ),
    "prompt[1].tool_calls[0] has other than JSON; it must be texts, numbers, lists and objects "
    "that JSON can say": message(tool_calls=[{"a": {1, 2}}]),
    "prompt.messages is of type str; it must be a list": a_chat(messages="tulips"),
    "prompt.tools[0] is of type builtin_function_or_method; it must be a": a_chat(tools=[print]),
    "prompt.tools[0] has other than JSON": a_chat(tools=[{"a": float("nan")}]),
    "prompt.chat_template_kwargs is of type list; it must be": a_chat(chat_template_kwargs=[1]),
    "prompt.add_generation_prompt is 'yes'; it must be True or": a_chat(
        add_generation_prompt="yes"
    ),
    "prompt.continue_final_message is None; it must be True": a_chat(continue_final_message=None),
}


@pytest.mark.parametrize("said", WRONG)
async def test_a_wrong_type_is_named_before_anything_is_sent(said: str) -> None:
    async with Client("unix:/nowhere") as client:
        with pytest.raises(InvalidArgument, match=f"^{re.escape(said)}") as raised:
            client.generate(WRONG[said]())
    assert "tulips" not in str(raised.value)


def test_every_field_of_a_request_has_a_wrong_type_here() -> None:
    named = " ".join(WRONG)
    for one in (*fields(GenerateRequest), *fields(Sampling)):
        assert one.name in named or one.type in {float, float | None}, one.name


AnyClient: Any = Client
AnySync: Any = SyncClient
ARGUMENTS: dict[str, Callable[[], object]] = {
    "address is 5; it must be host or host:port": lambda: AnyClient(5),
    "retries is '1'; it must be a whole number": lambda: AnyClient("a", retries="1"),
    "retries is -1; it must be at least 0": lambda: AnySync("a", retries=-1),
    "proxy is None; it must be text": lambda: AnyClient("a", proxy=None),
    "timeout is '1'; it must be a number": lambda: AnyClient("a", timeout="1"),
    "timeout is 0; it must be a number of seconds over 0": lambda: AnyClient("a", timeout=0),
    "timeout is nan; it must be": lambda: AnyClient("a").generate("x", timeout=float("nan")),
    "timeout is -1; it must be": lambda: AnySync("a").generate("x", timeout=-1),
    "request_id is of type int; it must": lambda: AnyClient("a").generate("x", request_id=5),
    "ca is '/nowhere'; it must be a file with certificates in PEM": lambda: AnyClient(
        "a", ca="/nowhere"
    ),
    "ca is <tests.unit.client.test_request.Hostile object": lambda: AnyClient("a", ca=HOSTILE),
    "model is wrong at character 0; it must be characters that UTF-8 has": lambda: AnySync(
        "a"
    ).tokenize("x", "\ud800"),
    f"ca is {__file__!r}; it must be a file"[:60]: lambda: AnyClient("a", ca=__file__),
    "prompt is of type int; it must": lambda: AnySync("a").tokenize(5),
    "model is of type int; it must": lambda: AnySync("a").tokenize("x", 5),
    "token_ids is of type str; it must": lambda: AnySync("a").detokenize("x"),
    "skip_special_tokens is 1; it must": lambda: AnySync("a").detokenize(
        [1], skip_special_tokens=1
    ),
}


@pytest.mark.parametrize("said", ARGUMENTS)
def test_so_is_a_wrong_argument_of_the_client(said: str) -> None:
    with pytest.raises(InvalidArgument, match=f"^{re.escape(said)}"):
        ARGUMENTS[said]()
