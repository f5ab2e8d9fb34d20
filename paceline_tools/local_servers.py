"""Server processes of this machine: started, watched, their logs followed, stopped."""

import asyncio
import contextlib
import os
import re
import signal
import sys
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass, field

from rich.console import Console

from paceline.addresses import join
from paceline.client import Client
from paceline.errors import InvalidArgument, Unavailable
from paceline_tools.other_python import OtherPython
from paceline_tools.server_log import ServerLog, parsed

READY_SECONDS = 1800.0
"""Loading a model takes this long at most: it may be converted before, or compiled by vLLM."""
STOP_SECONDS = 10.0
"""A process that has not ended this long after SIGTERM is killed."""
_ENDING = (signal.SIGTERM, signal.SIGHUP)
LINE_BYTES = 1024 * 1024
BAD_INPUT_STATUS = 2
"""Exit status of a server whose settings, model or files cannot be right."""
GRPC_EXPERIMENTS = "-event_engine_client,-event_engine_listener"
"""gRPC reads and writes on the thread that polls, without handing over to a pool of its own: a
sixth less CPU time a round. It is read when gRPC is loaded, so it has to come from outside."""


_OWN_PORT = re.compile(r"choose another --\w+-port \(\w+\)")
"""What a server advises whose port was taken since it was chosen here: who started it has no such
flag."""
OWN_PYTHON = OtherPython(sys.executable)
NO_OTHERS: Mapping[str, OtherPython] = {}
Serves = Callable[[set[str]], bool]
"""Whether servers of these names are enough to go on with."""


@dataclass
class Process:
    """One server as a process, and what it said last. ending: how it ended, in a line."""

    name: str
    process: asyncio.subprocess.Process
    log: ServerLog
    last_lines: deque[str] = field(default_factory=lambda: deque(maxlen=8))
    reason: str = ""
    ending: str = ""

    async def follow(self) -> str:
        """Pass its log on until it ends; returns how it ended."""
        if self.process.stderr is None:
            raise Unavailable(f"the {self.name} has no log")
        async for line in _lines(self.process.stderr):
            self.last_lines.append(line)
            self.log.server_line(self.name, line)
            event = parsed(line)
            if event.get("event") in {"stopped", "bad setting"} and event.get("reason"):
                self.reason = str(event["reason"])
        self.log.finish(self.name)
        return self._how(await self.process.wait())

    def _how(self, code: int) -> str:
        self.ending = self._ending(code)
        if self.reason:
            return self.ending
        log = "\n  ".join(self.last_lines)
        return f"{self.ending}; its last words:\n  {log}"

    def _ending(self, code: int) -> str:
        if self.reason:
            reason = _OWN_PORT.sub("run this again, which takes ports that are free", self.reason)
            return f"the {self.name} stopped: {reason}"
        return f"the {self.name} {how_it_ended(code)}"

    async def stop(self) -> None:
        """End it: SIGTERM, and SIGKILL after STOP_SECONDS."""
        await end(self.process)


def how_it_ended(code: int) -> str:
    """What became of a process that ended by itself; code: as asyncio gives it."""
    if code == -signal.SIGKILL:
        return "was killed by SIGKILL, perhaps as memory ran out"
    return f"was killed by {signal.Signals(-code).name}" if code < 0 else f"exited with {code}"


async def _lines(stream: asyncio.StreamReader) -> AsyncIterator[str]:
    """Lines; of one longer than LINE_BYTES only that it was."""
    while True:
        try:
            line = await stream.readline()
        except ValueError:
            yield f"a line of more than {LINE_BYTES} bytes"
            continue
        if not line:
            return
        yield line.decode(errors="replace").rstrip()


@dataclass
class Servers:
    """The processes that run. serves: whether those left are enough; ended: how others ended."""

    processes: list[Process]
    followers: dict[str, asyncio.Task[str]]
    serves: Serves
    ended: dict[str, str] = field(default_factory=dict)

    async def died(self) -> None:
        """Wait until too few are left; raises saying which ended and why.

        InvalidArgument where its exit status says that what it was given cannot be right, else
        Unavailable.
        """
        while self._enough():
            running = [one for name, one in self.followers.items() if name not in self.ended]
            await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
            for name, follower in self.followers.items():
                if follower.done() and name not in self.ended:
                    self.ended[name] = follower.result()
        name, how = list(self.ended.items())[-1]
        codes = {one.name: one.process.returncode for one in self.processes}
        raise (InvalidArgument if codes[name] == BAD_INPUT_STATUS else Unavailable)(how)

    async def endings(self) -> AsyncIterator[Process]:
        """Those that end, as long as the rest is enough."""
        waiting = {one.name: one for one in self.processes}
        while waiting:
            followers = [self.followers[name] for name in waiting]
            await asyncio.wait(followers, return_when=asyncio.FIRST_COMPLETED)
            ended = [one for name, one in waiting.items() if self.followers[name].done()]
            waiting = {name: one for name, one in waiting.items() if one not in ended}
            if not self.serves(set(waiting)):
                return
            for one in ended:
                yield one

    def _enough(self) -> bool:
        return self.serves(self.followers.keys() - self.ended.keys())


@contextlib.asynccontextmanager
async def running(
    commands: dict[str, list[str]],
    ready: Callable[[], Awaitable[None]],
    log: ServerLog | None = None,
    *,
    serves: Serves | None = None,
    pythons: Mapping[str, OtherPython] = NO_OTHERS,
) -> AsyncIterator[Servers]:
    """Servers by name, ready; stopped when the context is left.

    commands: the arguments of each, for Python. ready: waits until all are. log: where they log;
    nowhere unless given. serves: whether some are enough; all are needed unless given. pythons:
    what runs a server that this Python does not. Raises Unavailable when too few are left before,
    and SystemExit, once they are stopped, on a signal that would have ended this process.
    """
    log = log or ServerLog(Console(stderr=True), "none")
    servers = Servers([], {}, serves or (lambda names: names == commands.keys()))
    with _ending_in_order():
        try:
            for name, arguments in commands.items():
                process = await _start(arguments, pythons.get(name, OWN_PYTHON))
                servers.processes.append(Process(name, process, log))
            servers.followers = {
                one.name: asyncio.create_task(one.follow()) for one in servers.processes
            }
            await ready_or_died(ready(), servers.died(), "the servers were", READY_SECONDS)
            yield servers
        finally:
            log.close()
            await _stop(servers)


@contextlib.contextmanager
def _ending_in_order() -> Iterator[None]:
    """Have SIGTERM and SIGHUP cancel the task, as Ctrl-C does: it stops its servers, then exits.

    Who handles a signal already goes on doing so. One that comes again changes nothing: stopping
    takes STOP_SECONDS at most.
    """
    loop, task = asyncio.get_running_loop(), asyncio.current_task()
    came: list[signal.Signals] = []

    def end(number: signal.Signals) -> None:
        came.append(number)
        if task is not None and len(came) == 1:
            task.cancel()

    signals = [one for one in _ENDING if signal.getsignal(one) is signal.SIG_DFL]
    for number in signals:
        loop.add_signal_handler(number, end, number)
    try:
        yield
    except asyncio.CancelledError:
        if came:
            raise SystemExit(128 + came[0]) from None
        raise
    finally:
        for number in signals:
            loop.remove_signal_handler(number)


async def _stop(servers: Servers) -> None:
    await asyncio.gather(*(process.stop() for process in servers.processes))
    for follower in servers.followers.values():
        follower.cancel()
    await asyncio.gather(*servers.followers.values(), return_exceptions=True)


async def answers(port: int, *, drafts: int, host: str = "127.0.0.1") -> None:
    """Wait until the orchestrator at `port` has a target, and at least so many drafts for it."""
    async with Client(join(host, port)) as client:
        await has_servers(client, drafts=drafts)


async def has_servers(client: Client, *, drafts: int) -> None:
    """Wait until the orchestrator that a client reaches has a target, and so many drafts for it."""
    while True:
        with contextlib.suppress(Unavailable):
            if any(model.drafts >= drafts for model in await client.models()):
                return
        await asyncio.sleep(0.1)


async def _start(arguments: list[str], python: OtherPython) -> asyncio.subprocess.Process:
    """Start a server in a session of its own, so that Ctrl-C reaches it through us only."""
    return await asyncio.create_subprocess_exec(
        python.path,
        *arguments,
        stdin=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
        start_new_session=True,
        env={
            "GRPC_EXPERIMENTS": GRPC_EXPERIMENTS,
            "GRPC_VERBOSITY": "NONE",  # a server logs itself what it was told
            **os.environ,
            **python.variables,
        },
        limit=LINE_BYTES,
    )


async def end(process: asyncio.subprocess.Process) -> None:
    """End it, if it runs: SIGTERM, and SIGKILL after STOP_SECONDS."""
    if process.returncode is not None:
        return
    process.terminate()
    try:
        await asyncio.wait_for(process.wait(), STOP_SECONDS)
    except TimeoutError:
        process.kill()
        await process.wait()


async def ready_or_died(
    ready: Awaitable[None], died: Awaitable[None], what: str, seconds: float
) -> None:
    """Wait until `ready` is over; raises what `died` does when that is over before.

    Raises Unavailable, which names `what`, when neither is after so many seconds.
    """
    waiting, dying = asyncio.ensure_future(ready), asyncio.ensure_future(died)
    try:
        async with asyncio.timeout(seconds):
            done, _ = await asyncio.wait({waiting, dying}, return_when=asyncio.FIRST_COMPLETED)
    except TimeoutError:
        raise Unavailable(f"{what} not ready after {seconds:g} s") from None
    finally:
        waiting.cancel()
        dying.cancel()
        await asyncio.gather(waiting, dying, return_exceptions=True)
    await (waiting if waiting in done else dying)
