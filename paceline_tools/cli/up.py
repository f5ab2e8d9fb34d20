"""paceline up: drafts, targets and orchestrator on this machine."""

import asyncio
import contextlib
import signal
import sys
from asyncio import FIRST_COMPLETED
from collections.abc import AsyncIterator, Coroutine
from typing import Any

from paceline import log
from paceline.addresses import ANY_IPV4, is_loopback, join
from paceline.errors import PacelineError
from paceline_tools.cli.up_gateway import gateway_running
from paceline_tools.cli.up_options import UpOptions
from paceline_tools.cli.up_ports import GATEWAY, GATEWAY_METRICS, PAGE, Ports
from paceline_tools.cli.up_servers import check, tell_of_servers, up_running
from paceline_tools.local_servers import Servers
from paceline_tools.server_log import ServerLog
from paceline_tools.terminal import console, is_bad_input

OPEN_TO_ALL = "whoever reaches this machine may ask for tokens, in plaintext:"
"""Said where it listens beyond this machine."""


class Up(UpOptions):
    """Run drafts, targets and orchestrator on this machine until Ctrl-C."""

    def cli_cmd(self) -> None:
        """Run the command."""
        quiet = "log_level" not in self.model_fields_set
        form = log.form(self.log_format)
        try:
            asyncio.run(self._run(ServerLog(console(stderr=True), form, quiet=quiet)))
        except PacelineError as error:
            if self.log_format != "json":
                raise
            for reason in str(error).splitlines():
                sys.stderr.write(log.line("stopped", "error", reason=reason, server="up"))
            raise SystemExit(2 if is_bad_input(error) else 1) from None

    async def _run(self, output: ServerLog) -> None:
        """Until a signal. One that comes before it serves is its exit status."""
        ended, stop = list[int](), asyncio.Event()

        def end(number: int) -> None:
            ended.append(number)
            stop.set()

        for number in (signal.SIGINT, signal.SIGTERM):
            asyncio.get_running_loop().add_signal_handler(number, end, number)
        ready = asyncio.Event()
        serving = asyncio.create_task(self._serve(output, ready))
        stopping = asyncio.create_task(stop.wait())
        await asyncio.wait({serving, stopping}, return_when=asyncio.FIRST_COMPLETED)
        stopping.cancel()
        if not serving.done():
            serving.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await serving
        if ended and not ready.is_set():
            raise SystemExit(128 + ended[0])

    async def _serve(self, output: ServerLog, ready: asyncio.Event) -> None:
        plan = check(self)
        async with up_running(self, output, drafts=False, plan=plan) as servers:
            ready.set()
            output.serving = True
            host = "localhost" if self.host in {"127.0.0.1", ANY_IPV4} else self.host
            output.say(f"ready at {join(host, self.port)}; Ctrl-C stops", style="bold")
            if not is_loopback(self.host):
                output.say(f"{OPEN_TO_ALL} --host is {self.host}", style="yellow", whole=True)
            if self.page:
                output.say(f"page: http://{join(host, plan.ports.of[PAGE])}/", whole=True)
            async with _beside(tell_of_servers(self, servers, output)):
                if self.gateway:
                    await self._with_gateway(servers, plan.ports, output)
                await servers.died()

    async def _with_gateway(self, servers: Servers, ports: Ports, output: ServerLog) -> None:
        """Until it or the servers end."""
        own = ports.of[GATEWAY], ports.of[GATEWAY_METRICS]
        async with (
            _beside(servers.died()) as ended,
            gateway_running(self.host, self.port, own, output) as gateway,
            _beside(gateway.died()) as died,
        ):
            for line in await gateway.help():
                output.say(line, whole=True)
            await asyncio.wait({died, ended}, return_when=FIRST_COMPLETED)
            await (died if died.done() else ended)


@contextlib.asynccontextmanager
async def _beside(work: Coroutine[Any, Any, None]) -> AsyncIterator["asyncio.Task[None]"]:
    """Do it while the context lasts."""
    task = asyncio.create_task(work)
    try:
        yield task
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
