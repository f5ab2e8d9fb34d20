"""What a client sends, and what it gets, is in no log and in no error, whatever fails and where."""

import asyncio
import gc
import io
import logging
import sys
import threading
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NoReturn

import pytest
import structlog

from draft_server.drafters.sampling import DraftSampler
from orchestrator.backends.target_failover import TargetLink
from orchestrator.serving import generation, service
from orchestrator.serving.output import OutputStream
from orchestrator.serving.text.tokenizer import TargetTokenizer
from paceline import log
from paceline.client import Client
from paceline.engine.torch.runner import ModelRunner
from paceline.engine_server import server as engine_server
from paceline.errors import PacelineError
from paceline.protocol.generation import ChatMessage, GenerateRequest, Prompt, Speculation
from paceline.protocol.sampling import SamplingParams
from target_server import deciding, verification
from tests import servers
from tests.marks import slow
from tests.tiny_models import tiny_model

QUOTED = "tulips{[at]}dawn"
PROMPTS: tuple[Prompt, ...] = (
    QUOTED,
    tuple(QUOTED.encode()),
    (ChatMessage("user", QUOTED), ChatMessage(QUOTED, "hello")),
)
PLACES: dict[str, tuple[Any, str]] = {
    "tokenizing": (TargetTokenizer, "encode"),
    "admission": (generation, "admit"),
    "the codec": (service, "event_to_proto"),
    "the stream": (TargetLink, "run"),
    "text": (OutputStream, "settle"),
    "statistics": (OutputStream, "finished"),
    "opening": (engine_server, "opening_from_proto"),
    "planning": (verification.Verification, "plan"),
    "sampling": (deciding, "pick"),
    "drafting": (DraftSampler, "pick"),
    "the forward pass": (ModelRunner, "_logits"),  # the last: it can end the engine
}


@pytest.fixture(params=["json", *slow("console")])
def logged(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> Iterator[io.StringIO]:
    """All that is written to standard error, from the debug level up."""
    written = io.StringIO()
    hooks = sys.excepthook, threading.excepthook, sys.unraisablehook, warnings.showwarning
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    monkeypatch.setattr(sys, "stderr", written)
    log.configure("debug", request.param)
    yield written
    root.handlers[:], root.level = handlers, level
    sys.excepthook, threading.excepthook, sys.unraisablehook, warnings.showwarning = hooks


def quoting(*arguments: Any, **named: Any) -> NoReturn:
    """A bug that quotes all it has, also to whoever looks at its variables."""
    told = f"{QUOTED} {arguments} {named}"
    try:
        raise KeyError(told)
    except KeyError as error:
        raise ExceptionGroup(told, [ValueError(told)]) from error


def says_nothing_of(secret: str, *texts: str) -> None:
    ids = ", ".join(str(byte) for byte in secret.encode()[:5])
    for text in texts:
        assert secret not in text
        assert ids not in text


async def ask(client: Client, prompt: Prompt) -> str:
    """An output with everything a request can carry; what is said when there is none."""
    request = GenerateRequest(
        prompt,
        sampling=SamplingParams(temperature=0),
        max_tokens=12,
        ignore_eos=True,
        stop=(QUOTED,),
        cache_salt=QUOTED,
        logprobs=1,
        speculation=Speculation.FORCE,
    )
    try:
        result = await client.generate(request, request_id="named", timeout=5).result()
    except PacelineError as error:
        return f"{error!r} {error.__cause__!r}"
    return "" if result.choices[0].text else "no text"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_model(tmp_path_factory.mktemp("model"))


async def test_a_bug_anywhere_is_told_without_what_it_quotes(
    logged: io.StringIO, folder: Path
) -> None:
    async with (
        servers.target(folder) as target,
        servers.draft(folder) as draft,
        servers.orchestrator([target.address], [draft.address]) as client,
    ):
        assert not await ask(client, QUOTED)
        for name, place in PLACES.items():
            logged.truncate(logged.seek(0))
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(*place, quoting)
                for prompt in PROMPTS:
                    says_nothing_of(QUOTED, await ask(client, prompt))
            says_nothing_of(QUOTED, logged.getvalue())
            assert "quoting" in logged.getvalue(), name  # the place is told


def from_a_logger(quote: Callable[[], None]) -> None:
    try:
        quote()
    except ExceptionGroup:
        logging.getLogger("somebody.elses").exception("failed")


def from_a_thread(quote: Callable[[], None]) -> None:
    thread = threading.Thread(target=quote)
    thread.start()
    thread.join()


def from_the_collector(quote: Callable[[], None]) -> None:
    kind = type("Kind", (), {"__del__": lambda self: quote()})
    kind()
    gc.collect()


def from_the_main_thread(quote: Callable[[], None]) -> None:
    try:
        quote()
    except ExceptionGroup as error:
        sys.excepthook(type(error), error, error.__traceback__)


def from_a_task(quote: Callable[[], None]) -> None:
    async def fail() -> None:
        quote()

    async def forget() -> None:
        asyncio.get_running_loop().set_exception_handler(log.unheard)
        asyncio.get_running_loop().call_soon(quoting, QUOTED)
        task = asyncio.create_task(fail(), name="forgotten")
        await asyncio.wait({task})

    asyncio.run(forget(), debug=True)
    gc.collect()


def from_a_line_that_cannot_be_written(quote: Callable[[], None]) -> None:
    record = logging.LogRecord("somebody.elses", logging.ERROR, "here", 1, "%d", (QUOTED,), None)
    for handler in logging.getLogger().handlers:
        if type(handler).__module__ == log.__name__:  # pytest's own raises
            handler.handle(record)


def from_a_warning(quote: Callable[[], None]) -> None:
    warnings.warn(QUOTED, UserWarning, stacklevel=1)


def from_a_value(quote: Callable[[], None]) -> None:
    structlog.get_logger("ours").error(
        "failed", what=GenerateRequest(QUOTED), of={"a": [ValueError(QUOTED)]}
    )


@pytest.mark.parametrize(
    "way",
    [
        from_a_logger,
        from_a_thread,
        from_the_collector,
        from_the_main_thread,
        from_a_task,
        from_a_line_that_cannot_be_written,
        from_a_warning,
        from_a_value,
    ],
)
@pytest.mark.filterwarnings("default")
def test_whoever_reports_an_error_quotes_nothing(
    way: Callable[[Callable[[], None]], None], logged: io.StringIO
) -> None:
    way(lambda: quoting(QUOTED))
    assert logged.getvalue()
    says_nothing_of(QUOTED, logged.getvalue())


def test_a_long_value_is_cut(logged: io.StringIO) -> None:
    structlog.get_logger("ours").error(
        "e" * 10**6, reason="r" * 10**6, deep=[{"k" * 10**6: ["v" * 10**6] * 9}], many=[0] * 10**6
    )
    assert 0 < len(logged.getvalue()) < 40 * log.MOST_CHARACTERS
