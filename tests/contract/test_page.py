"""The page's front before real servers: our own door's tokens, limits, and nobody else's pages."""

import asyncio
import itertools
import json
import socket
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import structlog
from prometheus_client import CollectorRegistry
from pydantic import ValidationError

from orchestrator.page.front import METHOD
from orchestrator.settings import OrchestratorSettings
from paceline.errors import Unavailable
from paceline.protocol.generation import ChatMessage, GenerateRequest, Speculation
from paceline.protocol.sampling import Sampling
from paceline.rpc.options import MAX_MESSAGE_BYTES
from paceline.rpc.server import check_addresses
from tests import servers
from tests.web import Answer, request, send

TOKENS = 24
JSON = "application/json"
ROOT = Path(__file__).parents[2]


class Door:
    """A page, the client of its orchestrator, and the target behind both."""

    def __init__(self, port: int, registry: CollectorRegistry) -> None:
        self.port, self.registry = port, registry
        self.client: Any = None
        self.target: Any = None

    async def get(self, path: str, **headers: str) -> Answer:
        return await send(self.port, request("GET", path, b"", **headers))

    async def ask(self, headers: dict[str, str] | None = None, **fields: Any) -> Answer:
        given = {"content_type": JSON, **(headers or {})}
        body = json.dumps({"prompt": "say", "max_tokens": TOKENS, **fields}).encode()
        return await send(self.port, request("POST", "/generate", body, **given))


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as found:
        return int(found.getsockname()[1])


@pytest.fixture
async def door() -> AsyncIterator[Door]:
    door = Door(free_port(), CollectorRegistry())
    settings: dict[str, Any] = {"page_port": door.port, "drain_seconds": 0}
    async with (
        servers.target("simulated:step_ms=2") as door.target,
        servers.draft("simulated:step_ms=1,acceptance=0.8", drafter="model") as draft,
        servers.orchestrator(
            [door.target.address], [draft.address], registry=door.registry, **settings
        ) as door.client,
    ):
        yield door


async def test_what_the_browser_gets_is_whole_and_comes_from_here_alone(door: Door) -> None:
    for path, kind in (("/", "html"), ("/page.css", "css"), ("/page.js", "javascript")):
        answer = await door.get(path)
        assert answer.status == 200
        assert kind in answer.headers["Content-Type"]
        name = path.removeprefix("/") or "page.html"
        assert answer.body == (ROOT / "orchestrator" / "page" / name).read_bytes()
        text = answer.text.replace("http://www.w3.org/2000/svg", "")
        assert "http://" not in text
        assert "https://" not in text
        assert "innerHTML" not in text
        policy = answer.headers["Content-Security-Policy"]
        assert "default-src 'none'" in policy
        assert "unsafe" not in policy
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
        assert "Access-Control-Allow-Origin" not in answer.headers


@pytest.mark.parametrize("word", ["off", "auto", "force"])
async def test_its_tokens_are_those_of_our_own_door(door: Door, word: str) -> None:
    asked = GenerateRequest(
        "say", sampling=Sampling(temperature=0.7), seed=2**63 + 5, max_tokens=TOKENS,
        speculation=Speculation(word),
    )  # fmt: skip
    own = await door.client.generate(asked).result()
    answer = await door.ask(temperature=0.7, seed=str(2**63 + 5), speculation=word)
    assert answer.status == 200
    first, *deltas, last = answer.lines
    assert first["started"]["seed"] == str(2**63 + 5)
    tokens = [token for line in deltas for token in line["delta"]["tokens"]]
    assert tuple(token["id"] for token in tokens) == own.token_ids
    assert "".join(token["text"] for token in tokens) == own.text
    statistics = last["finished"]["statistics"]
    steps = [line["delta"]["step"] for line in deltas]
    assert statistics["verified"] == sum(step["verified"] for step in steps)
    assert statistics["accepted"] == sum(step["accepted"] for step in steps)
    if word == "force":
        assert statistics["rounds"] > 0
    for before, after in itertools.pairwise(steps):
        assert before["arrived"] <= after["began"] <= after["arrived"]
        assert after["forward"] > 0


async def test_tokens_of_prompt_lookup_are_told_from_those_of_a_model() -> None:
    port = free_port()
    async with (
        servers.target("simulated:step_ms=2") as target,
        servers.draft(None, drafter="ngram") as draft,
        servers.orchestrator([target.address], [draft.address], page_port=port, drain_seconds=0),
    ):
        *lines, last = (
            await Door(port, CollectorRegistry()).ask(max_tokens=400, speculation="force")
        ).lines
        tokens = [token for line in lines[1:] for token in line["delta"]["tokens"]]
        origins = [token["origin"] for token in tokens]
        assert origins.count("ngram") == last["finished"]["statistics"]["accepted"] > 0
        assert "accepted" not in origins


async def test_a_chat_is_the_same_messages_as_at_our_own_door(door: Door) -> None:
    said = (ChatMessage("system", "be brief"), ChatMessage("user", "say"))
    asked = GenerateRequest(
        said, sampling=Sampling(temperature=0.7, top_k=5), seed=3, max_tokens=TOKENS
    )
    own = await door.client.generate(asked).result()
    answer = await door.ask(chat=True, system="be brief", temperature=0.7, top_k=5, seed=3)
    _, *deltas, _ = answer.lines
    ids = [token["id"] for line in deltas for token in line["delta"]["tokens"]]
    assert tuple(ids) == own.token_ids


async def test_a_stream_is_logged_counted_and_named_as_a_call_is(door: Door) -> None:
    with structlog.testing.capture_logs() as lines:
        answer = await door.ask({"x_request_id": "mine"})
    assert answer.lines[0]["started"]["request_id"] == "mine"
    assert "stream finished" in {line["event"] for line in lines}
    assert servers.codes(door.registry, METHOD) == {"OK": 1}


@pytest.mark.parametrize(
    ("fields", "status", "kind", "said"),
    [
        ({"max_tokens": "x"}, 400, "invalid_argument", "max_tokens is 'x'; it must be a whole"),
        (
            {"max_tokens": 0},
            400,
            "invalid_argument",
            "max_tokens is 0; it must be at least 1 where no prompt_logprobs are asked for",
        ),
        (
            {"temperature": -1},
            400,
            "invalid_argument",
            "sampling.temperature is -1; it must be from 0 to ",
        ),
        ({"prompt": ""}, 400, "invalid_argument", "prompt is ''; it must be text, token ids or"),
        ({"model": "<b>"}, 404, "not_found", "model '<b>' is not served; there is simulated"),
        (
            {"prompt": "a" * 40_000},
            400,
            "invalid_argument",
            "prompt's length is 40000; it must be at most 32768 characters",
        ),
    ],
)
async def test_what_cannot_be_asked_is_refused_by_name(
    door: Door, fields: dict[str, Any], status: int, kind: str, said: str
) -> None:
    answer = await door.ask(**fields)
    assert (answer.status, answer.headers["Content-Type"]) == (status, JSON)
    [line] = answer.lines
    assert line["error"]["kind"] == kind
    assert line["error"]["message"].startswith(said)
    assert servers.codes(door.registry, METHOD) == {kind.upper(): 1}


async def test_whom_the_door_refuses_is_told_before_what_was_asked_is_read() -> None:
    port = free_port()
    settings: dict[str, Any] = {"page_port": port, "drain_seconds": 0}
    async with (
        servers.target("simulated:step_ms=20") as target,
        servers.orchestrator(
            [target.address], [], max_streams=1, max_queued=0, **settings
        ) as client,
    ):
        door = Door(port, CollectorRegistry())
        async with client.generate(GenerateRequest("say", max_tokens=5000)) as running:
            await anext(aiter(running))
            answer = await send(door.port, request("POST", "/generate", b"{", content_type=JSON))
        assert answer.status == 429
        told = answer.lines[0]["error"]
        assert told["kind"] == "resource_exhausted"
        why = "0 requests wait, the most that may (--max-queued)"
        assert told["message"] == f"the orchestrator is full: {why}"


async def test_a_deadline_ends_a_stream_with_a_line_that_says_so() -> None:
    port = free_port()
    settings: dict[str, Any] = {"page_port": port, "drain_seconds": 0}
    async with (
        servers.target("simulated:step_ms=50") as target,
        servers.orchestrator(
            [target.address], [], default_deadline_seconds=2.0, **settings
        ) as client,
    ):
        door = Door(port, CollectorRegistry())
        door.client = client
        *_, last = (await door.ask(max_tokens=1000)).lines
        assert last["error"]["kind"] == "deadline_exceeded"
        assert last["error"]["message"] == "the output was not whole after 2.0 s"


async def test_who_goes_leaves_nothing_behind(door: Door) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", door.port)
    body = json.dumps({"prompt": "say", "max_tokens": 30_000}).encode()
    writer.write(request("POST", "/generate", body, content_type=JSON))
    await reader.readuntil(b'"delta"')
    assert (await door.client.status()).totals.running == 1
    writer.close()
    await servers.nothing_is_left(door.target)

    async def counted() -> bool:
        return servers.codes(door.registry, METHOD) == {"CANCELLED": 1}

    await servers.eventually(counted)


@pytest.mark.parametrize(
    ("method", "path", "headers", "status", "said"),
    [
        ("GET", "/none", {}, 404, "there is no '/none' here"),
        ("GET", "/../settings.py", {}, 404, "there is no '/../settings.py' here"),
        ("POST", "/", {}, 405, "the method is POST; it must be GET"),
        ("GET", "/generate", {}, 405, "the method is GET; it must be POST"),
        ("OPTIONS", "/generate", {}, 405, "the method is OPTIONS; it must be POST"),
        (
            "GET",
            "/",
            {"host": "rebound.example"},
            421,
            "Host is 'rebound.example'; it must be an address or ",
        ),
        ("POST", "/generate", {"content_type": "text/plain"}, 415, "Content-Type is 'text/plain'"),
        (
            "POST",
            "/generate",
            {"content_type": JSON, "origin": "https://evil.example"},
            403,
            "Origin is 'https://evil.example'; it must be this page's own",
        ),
        (
            "POST",
            "/generate",
            {"content_type": JSON, "content_length": str(MAX_MESSAGE_BYTES + 1)},
            413,
            f"the body is too long; it must be at most {MAX_MESSAGE_BYTES} bytes",
        ),
    ],
)
async def test_what_is_not_here_and_whoever_is_not_our_page_is_refused(
    door: Door, method: str, path: str, headers: dict[str, str], status: int, said: str
) -> None:
    long = b"x" * (MAX_MESSAGE_BYTES + 1) if "content_length" in headers else b""
    answer = await send(door.port, request(method, path, long, **headers))
    assert answer.status == status
    assert answer.text.startswith(said)
    assert not servers.codes(door.registry, METHOD)


async def test_the_strip_says_how_it_stands(door: Door) -> None:
    await door.ask(speculation="force")
    answer = await door.get("/status")
    told = json.loads(answer.body)
    assert [model["name"] for model in told["models"]] == ["simulated"]
    assert told["targets"] == {"all": 1, "reachable": 1}
    [pool] = told["pools"]
    assert (pool["name"], pool["state"]) == ("draft", "in use")
    assert 0 < pool["acceptance_rate"] <= 1


async def test_before_there_is_a_target_the_strip_says_what_is_missing() -> None:
    port = free_port()
    settings: dict[str, Any] = {"page_port": port, "drain_seconds": 0}
    async with servers.orchestrator_alone(["unix:/nowhere"], **settings):
        door = Door(port, CollectorRegistry())
        told = json.loads((await door.get("/status")).body)
        assert told["hindrance"].startswith("no target can be used: unix:/nowhere: ")
        answer = await door.ask()
        assert answer.status == 503
        assert answer.lines[0]["error"] == {
            "kind": "unavailable",
            "message": "no target is reachable",
        }


def test_it_is_off_and_this_machines_alone_unless_told_otherwise() -> None:
    settings = OrchestratorSettings()
    assert (settings.page_port, settings.page_host) == (0, "127.0.0.1")
    assert settings.host == "127.0.0.1"


def test_other_machines_reach_it_only_where_plaintext_is_meant() -> None:
    host = "0.0.0.0"  # noqa: S104  it is not bound
    with pytest.raises(ValidationError) as raised:
        OrchestratorSettings(page_port=7410, page_host=host)
    assert (
        "--page-host is 0.0.0.0: the page is plain HTTP, and other machines reach it with "
        "--plaintext only, where the network is trusted"
    ) in str(raised.value)
    settings = OrchestratorSettings(page_port=7410, page_host=host, plaintext=True)
    assert settings.page_host == host
    assert OrchestratorSettings(page_host=host).page_port == 0  # there is none


def test_a_port_that_is_taken_is_refused_before_anything_is_loaded() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        settings = OrchestratorSettings(port=0, health_port=0, metrics_port=0, page_port=port)
        with pytest.raises(Unavailable) as raised:
            check_addresses(settings)
    said = str(raised.value)
    assert said.startswith(f"cannot listen on 127.0.0.1:{port} for the page: ")
    assert said.endswith("choose another --page-port (PACELINE_ORCHESTRATOR_PAGE_PORT)")
