"""A real Prometheus for a measurement, with the project's own alerts, and what it says of them."""

import asyncio
import contextlib
import json
import math
import re
import shutil
import tempfile
import urllib.parse
import urllib.request
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import yaml

from paceline.errors import Unavailable
from paceline_tools.local_servers import end, ready_or_died

RULES = Path(__file__).parents[1] / "deploy" / "prometheus" / "alerts.yaml"
SCRAPE = "5s"
READY_SECONDS = 60.0
ANSWER_SECONDS = 10.0
_MINUTES = re.compile(r"(\[|for: )(\d+)m\b")


def faster(rules: str, factor: int) -> str:
    """The rules with every window and every `for:` so many times shorter; 1: as they are."""
    if factor == 1:
        return rules

    def shorter(found: re.Match[str]) -> str:
        return f"{found[1]}{int(found[2]) * 60_000 // factor}ms"

    return _MINUTES.sub(shorter, rules)


@dataclass(frozen=True, slots=True)
class Prometheus:
    """The server's HTTP API."""

    address: str

    async def alerts(self) -> dict[str, str]:
        """Each alert that is pending or firing, with its state."""
        found = (await self._get("/api/v1/alerts"))["data"]["alerts"]
        return {_name(one["labels"]): str(one["state"]) for one in found}

    async def value(self, expression: str) -> float | None:
        """Of an expression with one result; None when it has none, or 0 / 0."""
        query = urllib.parse.urlencode({"query": expression})
        result = (await self._get(f"/api/v1/query?{query}"))["data"]["result"]
        value = float(result[0]["value"][1]) if result else math.nan
        return None if math.isnan(value) else value

    async def over_time(
        self, expression: str, start: float, end: float, step: float
    ) -> list[tuple[dict[str, str], list[tuple[float, float]]]]:
        """Labels of each result, with (time, value) for each that is a number."""
        asked = {"query": expression, "start": start, "end": end, "step": step}
        query = urllib.parse.urlencode(asked)
        result = (await self._get(f"/api/v1/query_range?{query}"))["data"]["result"]
        found = [
            (one["metric"], [(at, float(text)) for at, text in one["values"]]) for one in result
        ]
        return [
            (labels, [(at, value) for at, value in values if math.isfinite(value)])
            for labels, values in found
        ]

    async def ready(self) -> None:
        """Wait until it answers."""
        while True:
            with contextlib.suppress(OSError):
                await asyncio.to_thread(_read, f"http://{self.address}/-/ready")
                return
            await asyncio.sleep(0.1)

    async def _get(self, path: str) -> Any:
        return json.loads(await asyncio.to_thread(_read, f"http://{self.address}{path}"))


def _name(labels: dict[str, str]) -> str:
    """An alert's name, and which one it is about."""
    about = labels.get("draft") or labels.get("job", "")
    return labels["alertname"] + (f" {about}" if about else "")


def _read(url: str) -> bytes:
    with urllib.request.urlopen(url, timeout=ANSWER_SECONDS) as answer:  # noqa: S310
        return bytes(answer.read())


@contextlib.asynccontextmanager
async def prometheus(
    port: int,
    targets: dict[str, int],
    factor: int = 1,
    scrape: str = SCRAPE,
    labels: Mapping[str, dict[str, str]] = MappingProxyType({}),
) -> AsyncIterator[Prometheus]:
    """Prometheus at `port`, ready, which scrapes that often.

    targets: ports of metrics by job. factor: see faster. labels: more of them, by job.
    Raises Unavailable when there is none to start, or it does not start.
    """
    program = shutil.which("prometheus")
    if program is None:
        raise Unavailable("there is no prometheus: install the package of that name")
    jobs = [
        {
            "job_name": job,
            "static_configs": [{"targets": [f"127.0.0.1:{at}"], "labels": labels.get(job, {})}],
        }
        for job, at in targets.items()
    ]
    with tempfile.TemporaryDirectory(prefix="paceline-") as name:
        folder = Path(name)
        found = Prometheus(f"127.0.0.1:{port}")
        arguments = _arguments(program, folder, found.address, jobs, factor, scrape)
        async with _process(arguments) as process:
            await ready_or_died(found.ready(), _died(process), "prometheus was", READY_SECONDS)
            yield found


def _arguments(
    program: str,
    folder: Path,
    address: str,
    jobs: list[dict[str, Any]],
    factor: int,
    scrape: str,
) -> list[str]:
    """Write what it needs into the folder; returns the command."""
    rules = folder / "alerts.yaml"
    rules.write_text(faster(RULES.read_text(), factor))
    configuration = {
        "global": {
            "scrape_interval": scrape,
            "scrape_timeout": scrape,
            "evaluation_interval": SCRAPE,
        },
        "rule_files": [str(rules)],
        "scrape_configs": jobs,
    }
    file = folder / "prometheus.yaml"
    file.write_text(yaml.safe_dump(configuration))
    return [
        *(program, f"--config.file={file}", f"--web.listen-address={address}"),
        *(f"--storage.tsdb.path={folder / 'data'}", "--log.level=warn"),
    ]


@contextlib.asynccontextmanager
async def _process(command: Sequence[str]) -> AsyncIterator[asyncio.subprocess.Process]:
    """Run it while the context lasts."""
    process = await asyncio.create_subprocess_exec(*command, start_new_session=True)
    try:
        yield process
    finally:
        await end(process)


async def _died(process: asyncio.subprocess.Process) -> None:
    raise Unavailable(f"prometheus exited with {await process.wait()}")
