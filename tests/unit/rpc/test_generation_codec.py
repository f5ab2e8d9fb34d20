"""Values of clients and their messages have the same fields: what users write is what is sent."""

import dataclasses
from typing import Any

import pytest

from paceline.errors import InvalidArgument
from paceline.protocol import generation, status
from paceline.protocol.constraint import JSON_OBJECT, Constraint, ConstraintKind
from paceline.protocol.features import OF_ORCHESTRATOR, needed_of_orchestrator
from paceline.protocol.generation import Chat, ChatMessage, GenerateRequest, Speculation
from paceline.protocol.limits import RESERVED_KWARGS, check_prompt
from paceline.protocol.model import Machine
from paceline.protocol.sampling import Sampling, SamplingParams
from paceline.rpc.codec.generation import (
    event_from_proto,
    event_to_proto,
    prompt_from_proto,
    request_from_proto,
    request_to_proto,
)
from paceline.rpc.codec.sampling import sampling_from_proto, sampling_to_proto
from paceline.rpc.codec.status import status_from_proto, status_to_proto
from paceline.v1 import generation_pb2, sampling_pb2, status_pb2

EVERY_FIELD = GenerateRequest(
    prompt=Chat(
        (
            ChatMessage("user", "say"),
            ChatMessage("assistant", None, "me", ({"b": 1, "a": [2.0, "é"]},), "", "so"),
            ChatMessage("tool", "", "it", (), "call"),
        ),
        ({"z": {"y": 1, "x": None}},),
        {"enable_thinking": False, "budget": 5},
        False,
        True,
    ),
    model="tiny",
    sampling=Sampling(
        0.5, 3, 0.9, 0.1, 1.1, 0.2, 0.3, {4: 1.0}, 2, (7, 8), ((9,), (10, 11)), JSON_OBJECT
    ),
    seed=1,
    max_tokens=2,
    n=3,
    speculation=Speculation.FORCE,
    ignore_eos=True,
    required_features=("n",),
    output_token_ids=(1, 2),
    fingerprint="print",
    stop=("a", "b"),
    stop_token_ids=(5,),
    logprobs=0,
    prompt_logprobs=1,
    priority=-1,
    cache_salt="salt",
    include_stop=True,
    skip_special_tokens=False,
    bad_words=("word",),
    truncate_prompt_tokens=-1,
)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (GenerateRequest, generation_pb2.GenerateRequest),
        (SamplingParams, sampling_pb2.SamplingParams),
        (generation.Started, generation_pb2.Started),
        (generation.Delta, generation_pb2.Delta),
        (generation.Finished, generation_pb2.Finished),
        (generation.Statistics, generation_pb2.Statistics),
        (generation.Usage, generation_pb2.Usage),
        (generation.Model, generation_pb2.Model),
        (status.Totals, status_pb2.Totals),
        (status.DraftPoolStatus, status_pb2.DraftPool),
        (status.DraftPoolCounts, status_pb2.DraftPoolCounts),
        (status.DraftPoolTimes, status_pb2.DraftPoolTimes),
        (status.Server, status_pb2.Server),
    ],
)
def test_a_value_mirrors_its_message(value: Any, message: Any) -> None:
    fields = {field.name for field in dataclasses.fields(value)}
    # How a call is held, not what is asked for: the client library and the front see to it.
    of_call = {"signs_of_life"} if message is generation_pb2.GenerateRequest else set()
    assert fields == set(message.DESCRIPTOR.fields_by_name) - of_call


def test_every_field_of_a_request_arrives() -> None:
    assert GenerateRequest(EVERY_FIELD.prompt) != EVERY_FIELD
    for value in (EVERY_FIELD, EVERY_FIELD.sampling):
        for field in dataclasses.fields(value):
            if field.default is not dataclasses.MISSING:
                assert getattr(value, field.name) != field.default
    assert request_from_proto(request_to_proto(EVERY_FIELD)) == EVERY_FIELD


@pytest.mark.parametrize("said", [Sampling(), Sampling(0.0, 0, 1.0, 0.0, 1.0), Sampling(top_k=5)])
def test_what_a_request_does_not_say_of_sampling_stays_so(said: Sampling) -> None:
    request = GenerateRequest("x", sampling=said)
    assert request_from_proto(request_to_proto(request)) == request


def test_the_sampling_that_holds_is_told() -> None:
    started = generation.Started("r", "m", "f", 1, (1,), 2, (1,), SamplingParams(top_k=3))
    assert event_from_proto(event_to_proto(started)) == started
    older = dataclasses.replace(started, sampling=None)
    assert event_from_proto(event_to_proto(older)) == older


@pytest.mark.parametrize(
    "pool",
    [
        status.DraftPoolStatus("unknown"),
        status.DraftPoolStatus(
            "known",
            ("here:1",),
            2,
            1,
            status.PoolState.IN_USE,
            "it pays",
            0.0,
            (0.5, 0.0),
            status.Speedup(1.5, 1.0, 2.0),
            status.DraftPoolCounts(1, 2, 3, 4, 5, 6),
            status.DraftPoolTimes(0.0, 0.1, 0.2),
        ),
    ],
)
def test_what_is_not_known_of_a_draft_pool_stays_so(pool: status.DraftPoolStatus) -> None:
    machine = Machine("1.0", "here", 2, 2, 1, 1, 0.0)
    found = status.Status(machine, (), status.Totals(running=1, accepted=2), (pool,))
    assert status_from_proto(status_to_proto(found)) == found


@pytest.mark.parametrize(
    ("chat", "said"),
    [
        ({"tools_json": "{tulips"}, "prompt.chat.tools_json is no JSON array of objects"),
        ({"tools_json": "[1]"}, "prompt.chat.tools_json is no JSON array of objects"),
        ({"tools_json": "[" * 99999}, "prompt.chat.tools_json is no JSON array of objects"),
        (
            {"messages": [{"tool_calls_json": "tulips"}]},
            "prompt.chat's tool_calls_json is no JSON array of objects",
        ),
        (
            {"chat_template_kwargs_json": '{"a": NaN}'},
            "prompt.chat.chat_template_kwargs_json is no JSON object",
        ),
    ],
)
def test_what_is_no_json_is_named_and_not_quoted(chat: dict[str, Any], said: str) -> None:
    message = generation_pb2.Prompt(chat=generation_pb2.Chat(**chat))
    with pytest.raises(InvalidArgument) as raised:
        prompt_from_proto(message)
    assert str(raised.value) == f"{said}; it must be one, or empty"


@pytest.mark.parametrize("name", RESERVED_KWARGS)
def test_a_name_that_a_conversation_has_fields_for_is_refused(name: str) -> None:
    chat = Chat((ChatMessage("user", "x"),), chat_template_kwargs={name: 1})
    with pytest.raises(InvalidArgument, match=f"chat_template_kwargs is '{name}'; it must be with"):
        check_prompt(chat)


def test_an_answer_does_not_begin_where_one_goes_on() -> None:
    chat = Chat((ChatMessage("user", "x"),), (), {}, True, True)
    with pytest.raises(InvalidArgument, match=r"add_generation_prompt is True; it must be false"):
        check_prompt(chat)


def test_an_older_orchestrator_is_asked_for_what_it_would_leave_out() -> None:
    plain = GenerateRequest("x")
    assert needed_of_orchestrator(plain) == ()
    assert set(needed_of_orchestrator(EVERY_FIELD)) == set(OF_ORCHESTRATOR)
    plain_chat = GenerateRequest((ChatMessage("user", "x"),))
    assert needed_of_orchestrator(plain_chat) == ()


@pytest.mark.parametrize("kind", ConstraintKind)
def test_each_kind_of_constraint_arrives(kind: ConstraintKind) -> None:
    choice = kind is ConstraintKind.CHOICE
    constraint = Constraint(kind, "" if choice else "a", ("b", "c") if choice else ())
    sampling = Sampling(constraint=constraint)
    assert sampling_from_proto(sampling_to_proto(sampling)) == sampling


def test_a_constraint_of_no_kind_is_refused() -> None:
    message = sampling_pb2.SamplingParams(constraint=sampling_pb2.Constraint())
    with pytest.raises(InvalidArgument) as raised:
        sampling_from_proto(message)
    known = "json_schema, regex, choice, grammar, structural_tag"
    assert str(raised.value) == f"sampling.constraint is 'empty'; it must be one of {known}"
