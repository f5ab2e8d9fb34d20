"""paceline doctor: what is wrong with a deployment, and what to do."""

import asyncio
import statistics
import time
from typing import Any

from rich.table import Table
from rich.text import Text

from paceline import __version__
from paceline.addresses import is_near
from paceline.client.access import access
from paceline.client.addresses import Orchestrators, orchestrators
from paceline.client.diagnosis import RUNNING, Dialer, look
from paceline.errors import FailedPrecondition, PacelineError, Unauthenticated
from paceline.protocol.status import Status
from paceline.rpc.channels import resolve
from paceline_tools.cli.access import AccessOptions
from paceline_tools.cli.asked import START, asking
from paceline_tools.cli.compiled_code import compiled_code
from paceline_tools.cli.diagnosis import diagnose
from paceline_tools.cli.draft_engines import draft_engines
from paceline_tools.cli.findings import Finding, Level
from paceline_tools.cli.gpu import gpu
from paceline_tools.terminal import console, plain

ROUND_TRIPS = 5
ASK = "name the orchestrator with --address"
_STYLES = {Level.OK: "green", Level.NOTE: "yellow", Level.WRONG: "bold red"}


class Doctor(AccessOptions):
    """Look at a deployment and say what is wrong and what to do. Exits with 1 when something is."""

    def cli_cmd(self) -> None:
        """Run the command."""
        findings = asyncio.run(examine(self.address, **self.access()))
        findings += [gpu(), *compiled_code(), *draft_engines()]
        console().print(shown(findings))
        if any(finding.level is Level.WRONG for finding in findings):
            raise SystemExit(1)


async def examine(address: str, **how: Any) -> list[Finding]:
    """All there is to say of the orchestrator at `address` and of its servers.

    how: as `asking` takes it.
    """
    where = orchestrators(address)
    try:
        addresses = [found for name in where.targets for found in await resolve(name)]
    except PacelineError as error:
        return [Finding(Level.WRONG, "orchestrator", str(error), "is the name in --address right?")]
    found = [Finding(Level.OK, "name", f"{where} is {', '.join(addresses)}")]
    try:
        status, seconds = await _ask(address, **how)
    except FailedPrecondition as error:
        return [*found, Finding(Level.WRONG, "orchestrator", str(error), ASK)]
    except Unauthenticated as error:  # it runs, and says itself what is missing
        return [*found, Finding(Level.WRONG, "orchestrator", str(error))]
    except PacelineError as error:
        return [*found, await _unanswered(where, error, how)]
    found.append(Finding(Level.OK, "orchestrator", f"answers in {seconds * 1e3:.1f} ms"))
    found.append(_transport(addresses, tls=where.tls))
    return [*found, *diagnose(status, __version__)]


async def _ask(address: str, **how: Any) -> tuple[Status, float]:
    """The status, and the median round trip in seconds."""
    async with asking(address, **how) as client:
        status = await client.status()
        seconds = []
        for _ in range(ROUND_TRIPS):
            started = time.perf_counter()
            status = await client.status()
            seconds.append(time.perf_counter() - started)
    return status, statistics.median(seconds)


async def _unanswered(where: Orchestrators, error: PacelineError, how: dict[str, Any]) -> Finding:
    """What a look at who listens there says; else the error, and whether it is running."""
    shown = access(*(how.get(name) for name in ("ca", "certificate", "key", "token")))
    dialer = Dialer.of(shown, tls=where.tls)
    for target in where.targets:
        seen = await look(target, dialer)
        if seen is not None and seen.final:
            return Finding(Level.WRONG, "orchestrator", f"{target} {seen.what}", seen.advice)
    what = str(error).removesuffix(f"; {RUNNING} {START}")
    return Finding(Level.WRONG, "orchestrator", what, f"{RUNNING} {START}")


def _transport(addresses: list[str], *, tls: bool) -> Finding:
    if tls:
        return Finding(Level.OK, "TLS", "on, and its certificate is trusted")
    if all(map(is_near, addresses)):
        return Finding(Level.OK, "TLS", "none, and the connection stays on this machine")
    advice = "prompts and outputs can be read on the way: keep to a network you trust"
    return Finding(Level.NOTE, "TLS", "none: the connection is plaintext", advice)


def shown(findings: list[Finding]) -> Table:
    """Each finding behind how bad it is, and below it what to do."""
    table = Table(box=None, pad_edge=False, show_header=False)
    for finding in findings:
        text = Text.assemble((finding.subject, "bold"), ": ", plain(finding.what))
        if finding.advice:
            text = Text.assemble(text, "\n", plain(f"-> {finding.advice}", "italic"))
        table.add_row(plain(finding.level.value, _STYLES[finding.level]), text)
    return table
