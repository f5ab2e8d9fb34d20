"""The page in a real browser, before real processes, started as a person starts them."""

import contextlib
import json
import re
import socket
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Literal

import pytest
import pytest_asyncio

from tests import servers
from tests.browser import Window, executable, window
from tests.e2e.test_small_model import PORT, up
from tests.servers import eventually
from tests.web import request, send

pytestmark = pytest.mark.e2e
TOKENS = 96
OTHER_PORT = PORT + 10
WHERE = re.compile(r"page: (http://\S+?/)")
TARGET = "simulated:step_ms=15"
DRAFT = "simulated:step_ms=2,acceptance=0.8"
HARMFUL = "</div><img src=x onerror=\"console.log('harm')\"><script>console.log('harm')</script>"
FAINT = (Path(__file__).parent / "contrast.js").read_text()
LINE_STYLE = "(node) => getComputedStyle(node, '::before').borderBottomStyle"
COLOUR = "(node) => getComputedStyle(node).borderBottomColor"


@pytest.fixture
def unused_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as found:
        return int(found.getsockname()[1])


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def url(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[str]:
    """Of one `paceline up` for all tests: none changes what it serves."""
    executable()  # nothing is started without one
    log = tmp_path_factory.mktemp("page") / "up.log"
    async with up(log, "--page", f"--target={TARGET}", f"--draft={DRAFT}"):
        await eventually(lambda: says_where(log))
        yield WHERE.findall(log.read_text())[0]


async def says_where(log: Path) -> bool:
    """The line of the page comes behind the one that says it is ready."""
    return WHERE.search(log.read_text()) is not None


async def compared(opened: Window) -> None:
    await opened.ask(prompt="hello", max_tokens=str(TOKENS), runs="off, then on (forced)", seed="5")
    await opened.done()
    assert await opened.text("#error") == ""
    assert f"the same {TOKENS} tokens" in await opened.text("#outcome")


async def test_off_and_on_side_by_side_with_origins_rounds_and_acceptance(url: str) -> None:
    async with window(url) as opened:
        await compared(opened)
        off, on = [await opened.text(f"#pane-{side} .text") for side in ("off", "on")]
        assert off == on
        assert len(off) == TOKENS  # of a simulated model each token is a letter
        origins = await opened.counts("#pane-on .text span", "data-origin")
        assert set(origins) == {"accepted", "recovered", "bonus", "target-only"}
        assert sum(origins.values()) == TOKENS
        only = await opened.counts("#pane-off .text span", "data-origin")
        assert only == {"target-only": TOKENS}
        legend = {}
        for origin in origins:
            legend[origin] = int(await opened.text(f"#origins [data-origin={origin}] output"))
        assert legend == origins
        # Every token is in the timeline again, above what its step took.
        lane = "#lane-on rect"
        assert await opened.counts(f"{lane}[data-origin]", "data-origin") == origins
        kinds = await opened.counts(f"{lane}[data-kind]", "data-kind")
        assert {"prefill", "draft", "verify", "wait"} <= set(kinds)
        assert set(await opened.counts("#lane-off rect[data-kind]", "data-kind")) <= {
            "prefill", "decode", "wait",
        }  # fmt: skip
        steps = int((await opened.text("#outcome")).split(" steps of")[0].split()[-1])
        assert steps < TOKENS
        assert sum(kinds.get(kind, 0) for kind in ("prefill", "verify", "decode")) == steps
        bars = await opened.page.locator("#positions li b").all_text_contents()
        assert len(bars) == 4  # forced: as many draft tokens as --draft-length says
        assert all(re.fullmatch(r"\d+ %", bar) for bar in bars)
        colours = {
            await opened.page.locator(f"#pane-on [data-origin={origin}]").first.evaluate(COLOUR)
            for origin in origins
        }
        assert len(colours) == 4
        assert opened.console == []


async def test_what_ran_is_shown_again_at_its_own_speed(url: str) -> None:
    async with window(url) as opened:
        await compared(opened)
        whole = await opened.text("#pane-on .text")
        await opened.page.click("#replay")
        assert await opened.page.get_attribute("body", "data-state") == "replaying"
        await opened.done()
        assert await opened.text("#pane-off .text") == whole
        assert await opened.text("#pane-on .text") == whole
        assert await opened.page.locator("#lane-on rect[data-origin]").count() == TOKENS


async def test_the_strip_says_what_is_served_and_how_the_pool_stands(url: str) -> None:
    async with window(url) as opened:
        await opened.page.wait_for_selector("#strip b")
        said = await opened.text("#strip")
        assert said.startswith("simulated")
        assert "1 of 1 targets" in said
        assert "draft in use" in said


async def test_a_wrong_field_is_said_in_words_and_stop_ends_a_stream(url: str) -> None:
    async with window(url) as opened:
        await opened.ask(prompt="hello", max_tokens="many")
        await opened.done()
        said = "max_tokens is 'many'; it must be a whole number"
        assert await opened.text("#error") == said
        assert await opened.page.evaluate("document.activeElement.id") == "max_tokens"
        assert await opened.page.get_attribute("#max_tokens", "aria-invalid") == "true"
        await opened.page.click("#more summary")
        await opened.ask(max_tokens="9", top_k="1e999")
        await opened.done()
        assert await opened.text("#error") == "top_k is '1e999'; it must be a whole number"
        await opened.page.fill("#top_k", "")
        opened.console.clear()  # browsers note an answer of 400 there
        await opened.ask(prompt="hello", max_tokens="30000", runs="off")
        await opened.page.wait_for_selector("#pane-off .text span")
        await opened.page.click("#stop")
        await opened.done()
        assert await opened.page.is_hidden("#error")
        assert await opened.page.get_attribute("#max_tokens", "aria-invalid") is None

        async def freed() -> bool:
            status = await send(PORT + 300, request("GET", "/status"))
            return bool(json.loads(status.body)["running"] == 0)

        await eventually(freed)
        assert opened.console == []


async def test_what_a_model_says_is_text_and_never_markup(url: str) -> None:
    step = {"began": 0, "arrived": 1, "draft_wait": 0, "forward": 1, "verified": 0, "accepted": 0}
    token = {"id": 1, "origin": "target-only", "text": HARMFUL}
    finished = {"tokens_per_second": 0, "output_tokens": 1}
    lines = [{"delta": {"index": 0, "tokens": [token], "step": step}}, {"finished": finished}]
    body = "\n".join(map(json.dumps, lines)) + "\n"
    async with window(url) as opened:
        await opened.page.route(
            "**/generate",
            lambda route: route.fulfill(body=body, content_type="application/x-ndjson"),
        )
        await opened.page.route("**/status", lambda route: route.fulfill(status=500, body=HARMFUL))
        await opened.ask(prompt="hello", runs="off")
        await opened.done()
        assert await opened.text("#pane-off .text") == HARMFUL
        assert await opened.page.locator("img").count() == 0
        assert "harm" not in " ".join(opened.console)


@pytest.mark.parametrize("width", [320, 400, 900, 1600])
async def test_a_window_of_any_width_has_all_of_it_without_scrolling_aside(
    url: str, width: int
) -> None:
    async with window(url, width=width) as opened:
        await compared(opened)
        await opened.page.click("#more summary")
        await opened.page.click("#steps summary")
        wide: int = await opened.page.evaluate("document.documentElement.scrollWidth")
        assert wide <= width


@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_all_text_has_contrast_and_every_field_a_label(
    url: str, scheme: Literal["light", "dark"]
) -> None:
    async with window(url, color_scheme=scheme) as opened:
        await compared(opened)
        await opened.page.click("#more summary")
        await opened.page.click("#steps summary")
        faint: list[str] = await opened.page.evaluate(FAINT)
        assert faint == []
        fields = "[...document.querySelectorAll('input, select, textarea')]"
        nameless = f"{fields}.filter((one) => !one.labels.length).length"
        assert await opened.page.evaluate(nameless) == 0
        styles = {
            await opened.page.locator(f"#origins [data-origin={origin}]").evaluate(LINE_STYLE)
            for origin in ("accepted", "ngram", "recovered", "bonus", "target-only")
        }
        assert styles == {"solid", "double", "dashed", "dotted", "none"}  # told without colours


async def test_all_of_it_is_done_with_the_keyboard(url: str) -> None:
    async with window(url) as opened:
        await opened.page.fill("#max_tokens", "30000")
        await opened.page.focus("#prompt")
        await opened.page.keyboard.press("Control+Enter")
        await opened.page.wait_for_selector("#pane-off .text span")
        await opened.page.keyboard.press("Escape")
        await opened.done()
        assert re.fullmatch(r"Stopped after \d+ tokens\.", await opened.text("#outcome"))
        await opened.page.fill("#max_tokens", "8")
        await opened.page.focus("#run")
        await opened.page.keyboard.press("Enter")
        await opened.page.wait_for_selector(
            "#stop:focus"
        )  # takes the place of Run, and gives it back
        await opened.done()
        assert await opened.page.evaluate("document.activeElement.id") == "run"


async def test_steps_are_also_a_table(url: str) -> None:
    async with window(url) as opened:
        await compared(opened)
        await opened.page.click("#steps summary")
        rows = await opened.page.locator("#steps tbody tr").all_inner_texts()
        cells = [row.split("\t") for row in rows]
        assert sum(int(row[2]) for row in cells if row[0] == "off") == TOKENS
        assert sum(int(row[2]) for row in cells if row[0] == "on") == TOKENS
        assert sum(int(row[3]) for row in cells) == int(
            await opened.text("#origins [data-origin=accepted] output")
        )


async def test_prompt_lookup_has_a_colour_of_its_own(tmp_path: Path) -> None:
    executable()
    log = tmp_path / "up.log"
    async with (
        up(log, "--page", f"--target={TARGET}", "--draft=lookup=ngram", port=OTHER_PORT),
        window(f"http://localhost:{OTHER_PORT + 300}/") as opened,
    ):
        await opened.ask(prompt="hello", max_tokens="400", runs="on (forced)")
        await opened.done()
        origins = await opened.counts("#pane-on .text span", "data-origin")
        assert origins["ngram"] > 0
        assert "accepted" not in origins


async def test_without_a_target_and_without_an_orchestrator_it_says_so_in_words(
    unused_port: int,
) -> None:
    executable()
    port = unused_port
    async with contextlib.AsyncExitStack() as stack:
        async with servers.orchestrator_alone(["unix:/nowhere"], page_port=port, drain_seconds=0):
            opened = await stack.enter_async_context(window(f"http://localhost:{port}/"))
            await opened.page.wait_for_function(
                "document.querySelector('#strip').textContent.startsWith('no target can be used')"
            )
            await opened.ask(prompt="hello", runs="on")
            await opened.done()
            assert await opened.text("#error") == "no target is reachable"
        await opened.ask(prompt="hello", runs="on")
        await opened.done()
        assert await opened.text("#error") == "the orchestrator does not answer"
