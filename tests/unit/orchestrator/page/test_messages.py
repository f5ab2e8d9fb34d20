"""What the page's script sends and gets: wrong fields named, times from the start."""

import json
from typing import Any

import pytest

from orchestrator.page.messages import event_line, request_of, status_json
from orchestrator.serving.output import TimedDelta
from orchestrator.serving.stream_statistics import TimedStep
from paceline.errors import InvalidArgument
from paceline.protocol.generation import (
    ChatMessage,
    Finished,
    FinishReason,
    GenerateRequest,
    Model,
    Speculation,
    Started,
    Statistics,
    Token,
    Usage,
)
from paceline.protocol.model import Machine
from paceline.protocol.proposal import Drafter, DraftToken
from paceline.protocol.sampling import Sampling
from paceline.protocol.status import DraftPoolStatus, PoolState, Speedup, Status, Totals
from paceline.protocol.verdict import Origin, PromptLogprobs

LONG = 2**64 - 1


def asked(**fields: Any) -> GenerateRequest:
    return request_of(json.dumps(fields).encode())


def test_every_field_arrives() -> None:
    request = asked(
        prompt="say",
        chat=False,
        model="tiny",
        speculation="force",
        max_tokens=5,
        temperature=0.5,
        top_p=0.9,
        top_k=40,
        min_p=0.1,
        seed=str(LONG),
        cache_salt="s",
    )
    assert request == GenerateRequest(
        "say",
        model="tiny",
        sampling=Sampling(temperature=0.5, top_p=0.9, top_k=40, min_p=0.1),
        seed=LONG,
        max_tokens=5,
        speculation=Speculation.FORCE,
        cache_salt="s",
    )


def test_what_is_left_out_or_null_is_the_servers_to_choose() -> None:
    assert asked(prompt="say", seed=None, max_tokens=None, temperature=None) == GenerateRequest(
        "say"
    )
    assert asked(prompt="say", chat=True).prompt == (ChatMessage("user", "say"),)
    assert asked(prompt="say", chat=True, system="be brief").prompt == (
        ChatMessage("system", "be brief"),
        ChatMessage("user", "say"),
    )
    assert asked(prompt="say", system="be brief").prompt == "say"
    assert asked(chat=True).prompt == ""  # which is refused as an empty prompt


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b"\xff", "the body is no JSON; it must be an object with a prompt"),
        (b"[" * 100_000, "the body is no JSON; it must be an object with a prompt"),
        (b"9" * 5000, "the body is no JSON; it must be an object with a prompt"),
        (b"[1]", "the body is no object; it must be one with a prompt"),
        (
            b'{"top": 1}',
            "a field of the body is 'top'; it must be one of prompt, chat, model, speculation, "
            "max_tokens, system, temperature, top_p, top_k, min_p, seed, cache_salt",
        ),
        (b'{"prompt": 1}', "prompt is 1; it must be text"),
        (b'{"chat": 1}', "chat is 1; it must be true or false"),
        (b'{"max_tokens": "many"}', "max_tokens is 'many'; it must be a whole number"),
        (b'{"max_tokens": true}', "max_tokens is True; it must be a whole number"),
        (b'{"max_tokens": 1.5}', "max_tokens is 1.5; it must be a whole number"),
        (
            b'{"max_tokens": 2147483648}',
            "max_tokens is 2147483648; it must be a whole number from -2147483648 to 2147483647",
        ),
        (b'{"temperature": "hot"}', "temperature is 'hot'; it must be a number"),
        (b'{"seed": "x"}', "seed is 'x'; it must be a whole number"),
        (b'{"seed": 1.0}', "seed is 1.0; it must be a whole number"),
        (
            b'{"seed": "18446744073709551616"}',
            "seed is 18446744073709551616; it must be a whole number from 0 to "
            "18446744073709551615",
        ),
        (b'{"speculation": "yes"}', "speculation is 'yes'; it must be one of off, auto, force"),
        (
            b'{"prompt": "a\\ud800"}',
            "prompt is wrong at character 1; it must be characters that UTF-8 has: no half of a "
            "surrogate pair",
        ),
    ],
)
def test_the_first_field_that_is_wrong_is_named(body: bytes, said: str) -> None:
    with pytest.raises(InvalidArgument) as raised:
        request_of(body)
    assert str(raised.value) == said


def test_a_stream_is_a_line_an_event_with_times_from_its_beginning() -> None:
    started = Started("id", "tiny", "print", LONG, (1, 2), 9)
    step = TimedStep(100.5, 101.0, 0.25, 0.375, 2, 1)
    tokens = (Token(4, Origin.ACCEPTED, "<b>"), Token(5, Origin.RECOVERED, "\n"))
    delta = TimedDelta(3, tokens, step=step)
    statistics = Statistics(rounds=1, decode_seconds=2.0)
    finished = Finished(FinishReason.LENGTH, Usage(2, 9, 0), statistics)
    lines = [event_line(event, 100.0) for event in (started, delta, finished)]
    assert all(line.count(b"\n") == 1 and line.endswith(b"\n") for line in lines)
    first, second, third = map(json.loads, lines)
    assert first == {
        "started": {
            "request_id": "id",
            "model": "tiny",
            "seed": str(LONG),
            "prompt_tokens": 2,
            "max_tokens": 9,
        }
    }
    assert second["delta"] == {
        "index": 3,
        "tokens": [
            {"id": 4, "origin": "accepted", "text": "<b>"},
            {"id": 5, "origin": "recovered", "text": "\n"},
        ],
        "step": {
            "began": 0.5,
            "arrived": 1.0,
            "draft_wait": 0.25,
            "forward": 0.375,
            "verified": 2,
            "accepted": 1,
        },
    }
    assert (third["finished"]["finish_reason"], third["finished"]["tokens_per_second"]) == (
        "length",
        4.0,
    )
    assert third["finished"]["statistics"]["rounds"] == 1
    assert event_line(PromptLogprobs(1, ()), 0.0) == b""


def test_an_accepted_token_of_prompt_lookup_is_told_from_a_models() -> None:
    drafted = (
        DraftToken(4),
        DraftToken(5, drafter=Drafter.NGRAM),
        DraftToken(6, 0.0, Drafter.NGRAM),
    )
    step = TimedStep(0.0, 1.0, 0.0, 0.5, 3, 2, drafted)
    origins = (Origin.ACCEPTED, Origin.ACCEPTED, Origin.RECOVERED)
    tokens = tuple(map(Token, (4, 5, 6), origins, "abc"))
    told = json.loads(event_line(TimedDelta(0, tokens, step=step), 0.0))["delta"]["tokens"]
    assert [token["origin"] for token in told] == ["accepted", "ngram", "recovered"]


def test_of_a_token_that_is_not_the_drafted_one_it_is_not_known_who_drafted_it() -> None:
    step = TimedStep(0.0, 1.0, 0.0, 0.5, 2, 2, (DraftToken(9, drafter=Drafter.NGRAM),))
    assert step.drafter(0, 9) is Drafter.NGRAM
    assert step.drafter(0, 4) is None  # of another draft, which the stream has left
    assert step.drafter(1, 9) is None


@pytest.mark.parametrize("high", [1.5, float("inf")])
def test_the_strip_has_pools_and_says_no_speed_up_that_json_cannot(high: float) -> None:
    pool = DraftPoolStatus(
        "small", state=PoolState.IN_USE, reason="so", speedup=Speedup(1.2, 1.0, high)
    )
    machine = Machine("1", "here", 2, 2, 1, 1, 0.0)
    status = Status(machine, (), Totals(running=2, waiting=1), (pool,))
    told = json.loads(status_json(status, [Model("tiny", "print", 64, 300, 1)], "no target"))
    assert [one["name"] for one in told["models"]] == ["tiny"]
    assert (told["running"], told["waiting"], told["hindrance"]) == (2, 1, "no target")
    assert told["targets"] == {"all": 0, "reachable": 0}
    speedup = {"value": 1.2, "low": 1.0, "high": high} if high < 2 else None
    assert told["pools"] == [
        {
            "name": "small",
            "state": "in use",
            "reason": "so",
            "acceptance_rate": None,
            "speedup": speedup,
        }
    ]
