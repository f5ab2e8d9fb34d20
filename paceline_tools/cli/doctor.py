"""paceline doctor: what is wrong with a deployment, and what to do."""

import asyncio
import socket
import ssl
import statistics
import time
from typing import Any

from rich.table import Table
from rich.text import Text

from paceline import __version__
from paceline.addresses import is_near, split
from paceline.client.addresses import orchestrators
from paceline.errors import FailedPrecondition, PacelineError
from paceline.protocol.status import Status
from paceline.rpc.channels import resolve
from paceline_tools.cli.access import AccessOptions
from paceline_tools.cli.asked import asking
from paceline_tools.cli.diagnosis import diagnose
from paceline_tools.cli.findings import Finding, Level
from paceline_tools.cli.gpu import gpu
from paceline_tools.terminal import console, plain

ROUND_TRIPS = 5
ASK = "name the orchestrator with --address"
HANDSHAKE_SECONDS = 2.0
_STYLES = {Level.OK: "green", Level.NOTE: "yellow", Level.WRONG: "bold red"}


class Doctor(AccessOptions):
    """Look at a deployment and say what is wrong and what to do. Exits with 1 when something is."""

    def cli_cmd(self) -> None:
        """Run the command."""
        findings = [*asyncio.run(examine(self.address, **self.access())), gpu()]
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
    except PacelineError as error:
        advice = "is it running? paceline up, or python -m orchestrator"
        tls = await asyncio.to_thread(lambda: any(map(_speaks_tls, addresses)))
        if tls and not where.tls:
            advice = "it speaks TLS: put grpcs:// in front; --ca names who signs for it"
        elif tls:
            advice = "does --ca name who signs for it, and has its certificate this name?"
        return [*found, Finding(Level.WRONG, "orchestrator", str(error), advice)]
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


def _transport(addresses: list[str], *, tls: bool) -> Finding:
    if tls:
        return Finding(Level.OK, "TLS", "on, and its certificate is trusted")
    if all(map(is_near, addresses)):
        return Finding(Level.OK, "TLS", "none, and the connection stays on this machine")
    advice = "prompts and outputs can be read on the way: keep to a network you trust"
    return Finding(Level.NOTE, "TLS", "none: the connection is plaintext", advice)


def _speaks_tls(address: str) -> bool:
    """Whether a TLS handshake succeeds, whoever signed the certificate."""
    if address.startswith("unix:"):
        return False
    host, port = split(address)
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    try:
        with socket.create_connection((host, int(port)), HANDSHAKE_SECONDS) as plain:
            context.wrap_socket(plain).close()
    except OSError:
        return False
    return True


def shown(findings: list[Finding]) -> Table:
    """Each finding behind how bad it is, and below it what to do."""
    table = Table(box=None, pad_edge=False, show_header=False)
    for finding in findings:
        text = Text.assemble((finding.subject, "bold"), ": ", plain(finding.what))
        if finding.advice:
            text = Text.assemble(text, "\n", plain(f"-> {finding.advice}", "italic"))
        table.add_row(plain(finding.level.value, _STYLES[finding.level]), text)
    return table
