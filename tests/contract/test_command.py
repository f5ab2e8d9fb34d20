"""The command as a process: what it prints, byte for byte, and how it ends."""

import asyncio
import contextlib
import os
import pty
import sys
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import grpc
import pytest
from prometheus_client import CollectorRegistry

from paceline.errors import FailedPrecondition
from paceline.protocol.constraint import JSON_OBJECT, Constraint, ConstraintKind, json_schema
from paceline.protocol.generation import (
    Delta,
    Finished,
    FinishReason,
    Model,
    Started,
    Statistics,
    Token,
    Usage,
)
from paceline.protocol.verdict import Origin
from paceline.rpc.codec.generation import event_to_proto, model_to_proto, request_from_proto
from paceline.rpc.interceptors import CallInterceptor, RpcMetrics
from paceline.rpc.options import server_options
from paceline.v1 import generation_pb2, generation_pb2_grpc
from paceline_tools.cli.app import main
from tests.terminals import ON_TERMINAL, without

TEXT = (
    "\tif x:\r\n\t\treturn [b]ü[/b] :smile: \\[/] http://x\x1b[31m\x07\x00\x9b" + "w" * 300 + " \n"
)
COMMAND = (sys.executable, "-m", "paceline_tools.cli")


class Service(generation_pb2_grpc.GenerationServiceServicer):
    """A model that says TEXT, and that fails with brackets when it is asked to."""

    def __init__(self) -> None:
        self.models = [Model("m[/x]", "f", 8, 8, 0)]
        self.asked: list[Any] = []

    async def Generate(
        self, request: generation_pb2.GenerateRequest, context: Any
    ) -> AsyncIterator[generation_pb2.GenerateResponse]:
        asked = request_from_proto(request)
        self.asked.append(asked)
        if asked.model == "fail":
            raise FailedPrecondition("wrong [/x] \x1b[2J of [red]it :smile:")
        if asked.model == "slow":
            yield event_to_proto(Started("id", "m", "f", 1, (1,), 8, (0,)))
            yield event_to_proto(Delta(0, (Token(1, Origin.TARGET_ONLY, "so far"),)))
            await asyncio.Event().wait()
        yield event_to_proto(Started("id", "m", "f", 1, (1,), 8, tuple(range(asked.n))))
        for index in range(asked.n):
            half = len(TEXT) // 2
            tokens = (
                Token(1, Origin.ACCEPTED, TEXT[:half]),
                Token(2, Origin.TARGET_ONLY, TEXT[half:]),
            )
            yield event_to_proto(Delta(0, tokens, index))
            finished = Finished(FinishReason.STOP, Usage(1, 2, 0), Statistics(), index)
            yield event_to_proto(finished)

    async def ListModels(
        self, request: generation_pb2.ListModelsRequest, context: Any
    ) -> generation_pb2.ListModelsResponse:
        return generation_pb2.ListModelsResponse(models=map(model_to_proto, self.models))

    async def Detokenize(
        self, request: generation_pb2.DetokenizeRequest, context: Any
    ) -> generation_pb2.DetokenizeResponse:
        return generation_pb2.DetokenizeResponse()

    async def Tokenize(
        self, request: generation_pb2.TokenizeRequest, context: Any
    ) -> generation_pb2.TokenizeResponse:
        return generation_pb2.TokenizeResponse()


@pytest.fixture
async def served(tmp_path: Path) -> AsyncIterator[tuple[Service, str]]:
    interceptor = CallInterceptor(RpcMetrics(CollectorRegistry()))
    server = grpc.aio.server(interceptors=[interceptor], options=server_options(public=True))
    service, address = Service(), f"unix:{tmp_path / 'server'}"
    generation_pb2_grpc.add_GenerationServiceServicer_to_server(service, server)
    server.add_insecure_port(address)
    await server.start()
    yield service, address
    await server.stop(0)


async def run(
    *arguments: str | bytes, stdin: bytes = b"", begins: Sequence[str] = (), **options: Any
) -> tuple[int, bytes, str]:
    """The command to its end: status, standard output, standard error."""
    options = {"stdout": asyncio.subprocess.PIPE, "stderr": asyncio.subprocess.PIPE, **options}
    process = await asyncio.create_subprocess_exec(
        *begins, *COMMAND, *arguments, stdin=asyncio.subprocess.PIPE, **options
    )
    out, err = await process.communicate(stdin)
    return process.returncode or 0, out or b"", (err or b"").decode()


def one_line(err: str) -> str:
    """What is said of a failure, with nothing of Python's."""
    [line] = err.splitlines()
    assert line.startswith("paceline: ")
    return line


async def test_output_is_the_models_text_byte_for_byte(served: tuple[Service, str]) -> None:
    _, address = served
    for env in ({}, {"LC_ALL": "C", "PYTHONIOENCODING": "ascii", "COLUMNS": "20"}):
        status, out, err = await run(
            "generate", "x", f"--address={address}", env={**os.environ, **env}
        )
        assert (status, err) == (0, "")
        assert out == TEXT.encode()


async def test_several_outputs_are_lines_of_their_own(served: tuple[Service, str]) -> None:
    status, out, _ = await run("generate", "x", f"--address={served[1]}", "-n", "2")
    assert status == 0
    assert out == 2 * f"{TEXT}\n".encode()


async def test_prompt_and_stop_strings_arrive_byte_for_byte(served: tuple[Service, str]) -> None:
    service, address = served
    prompt, stops = " [\r\n\tx, ü:smile: ", (", b", "\n", "null")
    flags = [f"--stop={stop}" for stop in stops] + [f"--bad-words={word}" for word in stops[::2]]
    await run("generate", f"--address={address}", "--raw", *flags, stdin=prompt.encode())
    await run("generate", prompt, f"--address={address}", "--raw", *flags)
    assert [one.prompt for one in service.asked] == [prompt, prompt]
    assert [one.stop for one in service.asked] == [stops, stops]
    assert [one.bad_words for one in service.asked] == [stops[::2]] * 2


async def on_terminal(
    *arguments: str, typed: Sequence[tuple[bytes, bytes]] = ()
) -> tuple[int, bytes]:
    """The command on a terminal: what it shows. typed: what to wait for, and to type then."""
    ours, its = pty.openpty()
    process = await asyncio.create_subprocess_exec(
        *ON_TERMINAL,
        *COMMAND,
        *arguments,
        stdin=its,
        stdout=its,
        stderr=its,
        env={**os.environ, "TERM": "xterm", "COLUMNS": "40"},
    )
    os.close(its)
    shown = b""
    steps = list(typed)
    while True:
        try:
            data = await asyncio.wait_for(asyncio.to_thread(os.read, ours, 65536), 60.0)
        except OSError:  # the terminal is closed
            break
        shown += data
        if steps and steps[0][0] in shown:
            os.write(ours, steps.pop(0)[1])
        if not data:
            break
    os.close(ours)
    return await process.wait(), shown


async def test_a_models_text_has_no_power_over_a_terminal(served: tuple[Service, str]) -> None:
    status, shown = await on_terminal("generate", "x", f"--address={served[1]}")
    assert status == 0
    text = shown.decode()
    assert "\tif x:␍\r\n\t\treturn [b]ü[/b] :smile:\r\n\\[/] http://x␛[31m␇␀\ufffd" in text
    assert "w" * 100 in text  # longer than the terminal is wide, and not wrapped
    assert "\x1b[31m" not in text
    assert "\x07" not in text


async def test_chat_shows_errors_as_they_are_and_ends(served: tuple[Service, str]) -> None:
    service, address = served
    service.models = [Model("fail", "f", 8, 8, 0)]
    status, shown = await on_terminal(
        *("chat", f"--address={address}", "--model=fail"),
        typed=[
            (b"ends it", b"hi\xff there\r"),
            (b"surrogate", b"hi\r"),
            (b"of [red]it :smile:", b"/exit\r"),
        ],
    )
    assert status == 0, shown.decode(errors="replace")
    assert "Traceback" not in shown.decode(errors="replace"), shown.decode(errors="replace")
    assert "wrong [/x] ␛[2J of [red]it :smile:" in shown.decode(errors="replace")


async def test_ctrl_c_stops_an_answer_of_chat_and_then_ends_generate(
    served: tuple[Service, str],
) -> None:
    service, address = served
    service.models = [Model("slow", "f", 8, 8, 0)]
    status, shown = await on_terminal(
        *("chat", f"--address={address}", "--model=slow"),
        typed=[(b"ends it", b"hi\r"), (b"so far", b"\x03"), (b"stopped", b"/exit\r")],
    )
    assert status == 0, shown.decode(errors="replace")
    flags = ("generate", "x", f"--address={address}", "--model=slow")
    status, shown = await on_terminal(*flags, typed=[(b"so far", b"\x03")])
    assert status == 130
    assert b"Traceback" not in shown


async def test_an_error_with_brackets_is_one_line(served: tuple[Service, str]) -> None:
    status, _, err = await run("generate", "x", f"--address={served[1]}", "--model=fail")
    assert status == 1
    assert one_line(err) == "paceline: wrong [/x] ␛[2J of [red]it :smile:"


async def test_chat_without_a_target_says_so(served: tuple[Service, str]) -> None:
    service, address = served
    service.models = []
    status, _, err = await run("chat", f"--address={address}")
    assert status == 1
    assert "has no target" in one_line(err)


Failure = tuple[list[str | bytes], dict[str, Any], int, str]
FAILURES: list[Failure] = [
    (["chat", "--address=127.0.0.1:9"], {}, 1, "nobody answers at 127.0.0.1:9"),
    (["generate", b"\xff"], {}, 2, "PROMPT is '\\udcff'; it must be valid UTF-8"),
    (["generate", "x", b"--stop=\xff"], {}, 2, "--stop is '\\udcff'; it must be valid UTF-8"),
    (["generate"], {"stdin": b"a\xff"}, 2, "standard input has byte 0xff at 1"),
    (["generate"], {"closed": 0}, 2, "standard input is closed"),
    (["chat"], {"closed": 0}, 2, "standard input is closed; chat reads its turns from there"),
    (["generate", "hi"], {"closed": 1}, 2, "standard output is closed; give it a terminal"),
    (["--version"], {"full": 1}, 1, "No space left on device"),
    (["bench", "--draft=qwen", "--target=simulated:"], {}, 2, "--draft: no model is called 'qwen'"),
]


@pytest.mark.parametrize(("arguments", "ends", "status", "message"), FAILURES)
async def test_what_fails_is_one_line(
    arguments: list[str | bytes], ends: dict[str, Any], status: int, message: str
) -> None:
    options: dict[str, Any] = {"stdin": ends.get("stdin", b"")}
    begins = without(ends["closed"]) if "closed" in ends else ()
    with contextlib.ExitStack() as stack:
        if "full" in ends:
            options["stdout"] = os.open("/dev/full", os.O_WRONLY)
            stack.callback(os.close, options["stdout"])
        found, _, err = await run(*arguments, begins=begins, **options)
    assert message in one_line(err)
    assert found == status


def said_here(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str]:
    """Status and standard error of what needs no process of its own to fail."""
    with pytest.raises(SystemExit) as ended:
        main(list(arguments))
    return int(ended.value.code or 0), capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        (["status", "--address=no-such-host.invalid:1"], 1, "no-such-host.invalid"),
        (["status", "--address=unix:/tmp/[/x]"], 1, "[/x]"),
        (["generate", ""], 2, "PROMPT is ''; it must be a text that is not empty"),
        (["evaluate", "--replay=/nowhere/[x]"], 2, "/nowhere/[x]"),
        (["evaluate", "--replay=/dev"], 2, "/dev"),
        (["evaluate", "--page=/nowhere/x"], 2, "--page is '/nowhere/x'"),
        (["evaluate", "--prompts=/nowhere"], 2, "--prompts is '/nowhere'; it must be a file that"),
        (["bench", "--prompts=/dev"], 2, "a file that can be read: Is a directory"),
        (["bench", "--json=/nowhere/x"], 2, "--json is '/nowhere/x'"),
        (["bench", "--target=/nowhere/x"], 2, "--target: '/nowhere/x' does not exist: there is"),
        (["bench", "--kinds=nope"], 2, "--kinds is 'nope'"),
    ],
)
def test_what_cannot_be_is_one_line(
    arguments: list[str], status: int, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    found, err = said_here(capsys, *arguments)
    assert message in one_line(err)
    assert found == status


async def test_a_reader_that_has_seen_enough_is_no_failure_to_tell(
    served: tuple[Service, str],
) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    for arguments in (["generate", "x", f"--address={served[1]}"], ["--version"]):
        status, _, err = await run(*arguments, stdout=writing)
        assert (status, err) == (1, "")
    os.close(writing)


async def test_constraints_arrive_as_they_were_given(
    served: tuple[Service, str], tmp_path: Path
) -> None:
    service, address = served
    (tmp_path / "schema.json").write_text('{"type": "integer"}\n')
    (tmp_path / "lark").write_text('start: "ü"')
    for flags in (
        ("--json-schema", '{"type": "integer"}\n'),
        ("--json-schema", str(tmp_path / "schema.json")),
        ("--json-object",),
        ("--regex", "[0-9], ?"),
        ("--choice", "yes, ", "--choice", "5"),
        ("--grammar", str(tmp_path / "lark")),
    ):
        assert (await run("generate", "x", f"--address={address}", *flags))[0] == 0
    assert [one.sampling.constraint for one in service.asked] == [
        json_schema('{"type": "integer"}\n'),
        json_schema('{"type": "integer"}\n'),
        JSON_OBJECT,
        Constraint(ConstraintKind.REGEX, "[0-9], ?"),
        Constraint(ConstraintKind.CHOICE, options=("yes, ", "5")),
        Constraint(ConstraintKind.GRAMMAR, 'start: "ü"'),
    ]


@pytest.mark.parametrize("command", [("generate", "x"), ("chat",)])
def test_constraints_that_cannot_be_are_said_in_a_line(
    command: Sequence[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Before anybody is asked: nobody is there."""
    (tmp_path / "bytes").write_bytes(b"\xff")
    for flags, said in (
        (("--json-schema", "/no/such"), "--json-schema: '/no/such' cannot be read: No such file"),
        (("--json-schema", str(tmp_path)), "cannot be read: Is a directory"),
        (("--grammar", str(tmp_path / "bytes")), "bytes' is not valid UTF-8"),
        (("--regex", "a", "--choice", "b"), "--regex and --choice are given; only one of them can"),
        (("--json-object", "--regex="), "--json-object and --regex are given; only one"),
    ):
        status, err = said_here(capsys, *command, f"--address=unix:{tmp_path}/nobody", *flags)
        assert status != 0
        assert said in one_line(err)
