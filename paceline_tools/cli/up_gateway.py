"""The gateway of `paceline up --gateway`: smg before the orchestrator, for OpenAI clients."""

import asyncio
import contextlib
import importlib.util
import json
import re
import sys
from collections import deque
from collections.abc import AsyncIterator
from http.client import HTTPConnection, HTTPException
from typing import Any

from paceline.addresses import ANY_IPV4, join
from paceline.errors import FailedPrecondition, Unavailable
from paceline_tools.local_servers import end, ready_or_died
from paceline_tools.server_log import ServerLog

READY_SECONDS = 60.0
ASK_SECONDS, ANSWER_SECONDS = 0.2, 5.0
LAST_LINES = 8
_BANNER = re.compile(r"[\u2800-\u28ff]|^\W*$")
"""Its logo, drawn with dots of Braille, and what stands beside it."""
_LEVELS = {"WARN": "warning"}
_PLACES = {"filename", "line_number"}
EVERYWHERE = {"127.0.0.1", ANY_IPV4}


def check_gateway() -> None:
    """FailedPrecondition where the gateway is not installed."""
    if importlib.util.find_spec("smg") is None:
        raise FailedPrecondition(
            "--gateway needs the gateway extra; run: pip install 'paceline[gateway]'"
        )


@contextlib.asynccontextmanager
async def gateway_running(
    host: str, port: int, own: tuple[int, int], log: ServerLog
) -> AsyncIterator["Gateway"]:
    """The gateway, ready, before the orchestrator at host and port; stopped when it is left.

    own: its port, and that of its metrics.
    """
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *_arguments(host, port, *own),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        start_new_session=True,
    )
    gateway = Gateway(process, host, own[0])
    following = asyncio.create_task(gateway.follow(log))
    try:
        await ready_or_died(gateway.ready(), gateway.died(), "the gateway was", READY_SECONDS)
        yield gateway
    finally:
        await end(process)
        following.cancel()
        await asyncio.gather(following, return_exceptions=True)


def _arguments(host: str, port: int, own: int, metrics: int) -> list[str]:
    """It looks at the orchestrator often, as both have just begun, and ends soon after it."""
    return [
        *("-m", "smg", "launch", "--host", host, "--port", str(own)),
        *("--prometheus-host", host, "--prometheus-port", str(metrics)),
        *("--worker-urls", f"grpc://{join(host, port)}", "--policy", "round_robin"),
        *("--worker-startup-check-interval", "1", "--health-check-interval-secs", "2"),
        *("--health-success-threshold", "1", "--load-monitor-interval", "2"),
        *("--shutdown-grace-period-secs", "2", "--log-level", "warn", "--log-json"),
    ]


class Gateway:
    """The process."""

    def __init__(self, process: asyncio.subprocess.Process, host: str, port: int) -> None:
        """Listens on host and port."""
        self._process = process
        self._host, self._port = "localhost" if host in EVERYWHERE else host, port
        self._last_lines: deque[str] = deque(maxlen=LAST_LINES)
        self._serves = False

    async def follow(self, log: ServerLog) -> None:
        """Pass its log on, as that of a server; to people only what it says once it serves."""
        if self._process.stdout is None:
            return
        async for line in self._process.stdout:
            text = line.decode(errors="replace").rstrip()
            if _BANNER.search(text):
                continue
            self._last_lines.append(text)
            if self._serves or log.form == "json":
                log.server_line("gateway", _event(text))

    async def ready(self) -> None:
        """Wait until it has the orchestrator's model, and then its tokenizer: 503 before that."""
        while True:
            if await asyncio.to_thread(self._models) and await asyncio.to_thread(self._tokenizers):
                self._serves = True
                return
            await asyncio.sleep(ASK_SECONDS)

    def _models(self) -> list[str]:
        """That it serves."""
        return [str(one["id"]) for one in self._list("/v1/models", "data")]

    def _tokenizers(self) -> list[str]:
        """That it has fetched."""
        return [str(one["name"]) for one in self._list("/v1/tokenizers", "tokenizers")]

    def _list(self, path: str, field: str) -> list[dict[str, object]]:
        """What it lists there; nothing while it does not answer."""
        connection = HTTPConnection(self._host, self._port, timeout=ANSWER_SECONDS)
        try:
            connection.request("GET", path)
            answer = connection.getresponse()
            return list(json.load(answer)[field]) if answer.status == 200 else []
        except (OSError, HTTPException):
            return []
        finally:
            connection.close()

    async def died(self) -> None:
        """Wait until it ends; raises Unavailable saying how."""
        code = await self._process.wait()
        last = "\n  ".join(self._last_lines)
        raise Unavailable(f"the gateway exited with {code}; its last words:\n  {last}")

    async def help(self) -> list[str]:
        """Lines that show how to ask it."""
        [model] = await asyncio.to_thread(self._models)
        url = f"http://{join(self._host, self._port)}/v1"
        message = json.dumps({"model": model, "messages": [{"role": "user", "content": "Hello"}]})
        return [
            f"OpenAI clients: {url}",
            f"  curl {url}/chat/completions --json \\",
            f"    '{message}'",
            "  from openai import OpenAI",
            f'  client = OpenAI(base_url="{url}", api_key="none")',
            f'  print(client.responses.create(model="{model}", input="Hello").output_text)',
        ]


def _event(line: str) -> str:
    """A line of its log in the form of our servers'."""
    try:
        said: dict[str, Any] = json.loads(line)
        message, level = str(said.pop("message")), str(said.pop("level"))
    except (ValueError, KeyError, TypeError, AttributeError):
        return line
    timestamp = str(said.pop("timestamp", "")).replace(" ", "T") + "Z"
    event = {"event": message, "level": _LEVELS.get(level, level.lower())}
    event |= {"logger": str(said.pop("target", "smg")), "timestamp": timestamp}
    fields = {name: value for name, value in said.items() if name not in _PLACES}
    return json.dumps({**event, **fields})
