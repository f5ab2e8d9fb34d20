"""paceline status and paceline top: how a deployment goes, once and live."""

import asyncio
import contextlib
import dataclasses
import json
from collections.abc import Sequence

from pydantic import Field
from rich.console import Console, Group, RenderableType
from rich.text import Text

from paceline.protocol import status
from paceline.protocol.model import KVSize
from paceline.protocol.session import Load
from paceline_tools.cli.access import AccessOptions
from paceline_tools.cli.asked import asking
from paceline_tools.grid import Cell, Grid
from paceline_tools.look import Look
from paceline_tools.terminal import console, plain

_BARS = " ▁▂▃▄▅▆▇█"
HISTORY = 40
STREAMS = (
    "waiting: for a target, or for KV there. tokens/step: output tokens of a target step. drafted, "
    "verified: draft tokens. accepted: of those verified. target-only: steps without a proposal."
)
POOLS = (
    "ready: of its servers. streams: that have its drafts. by position: from the first draft token "
    "of a round on. speed-up: over the target alone. wasted: of those drafted. "
    "token ms: to the next draft token / to the first after a wrong one, "
    "? while it is not measured."
)
SERVERS = (
    "sessions: streams that have KV. queued: for a step. batched: tokens of its last step. KV: "
    "tokens promised, of those for new streams; +N%: kept beside them for streams of lost servers. "
    "Streams wait below 100%: those that run need room to grow. RTT: there and back."
)
"""What the columns are."""
_STYLES = {
    status.PoolState.IN_USE: "green",
    status.PoolState.STANDBY: "default",
    status.PoolState.PROBING: "yellow",
    status.PoolState.FULL: "yellow",
    status.PoolState.BENCHED: "red",
    status.PoolState.UNREACHABLE: "red",
    status.PoolState.WRONG_VOCABULARY: "red",
}


class ShowStatus(AccessOptions):
    """Say how a deployment goes: servers, load, acceptance, what each draft pool brings.

    accepted is the acceptance rate, accepted / verified draft tokens. vLLM divides by drafted, and
    its mean acceptance length is 1 + accepted / rounds.
    """

    json_: bool = Field(False, alias="json", description="Print one object.")

    def cli_cmd(self) -> None:
        """Run the command."""
        found = asyncio.run(self._ask())
        if self.json_:
            console().print_json(json.dumps(dataclasses.asdict(found), default=_plain))
        else:
            console().print(view(found, found.totals, 0.0, []))

    async def _ask(self) -> status.Status:
        async with asking(self.address, **self.access()) as client:
            return await client.status()


class Top(AccessOptions):
    """Watch a deployment: streams, speed, acceptance, load. Ctrl-C ends.

    accepted is the acceptance rate, accepted / verified draft tokens. vLLM divides by drafted, and
    its mean acceptance length is 1 + accepted / rounds.
    """

    interval: float = Field(1.0, ge=0.1, le=60, description="Seconds between looks.")
    looks: int = Field(0, ge=0, description="End after so many; 0: never.")

    def cli_cmd(self) -> None:
        """Run the command."""
        # Ctrl-C, or a reader that has seen enough, is how it is ended.
        with contextlib.suppress(KeyboardInterrupt, BrokenPipeError):
            asyncio.run(self._run(console()))

    async def _run(self, output: Console) -> None:
        speeds: list[float] = []
        async with asking(self.address, **self.access()) as client:
            before, looks = await client.status(), 0
            with Look(output) as look:
                while not self.looks or looks < self.looks:
                    await look.wait(self.interval)
                    now, looks = await client.status(), looks + 1
                    recent = now.totals.since(before.totals)
                    speeds.append(recent.tokens / self.interval)
                    shown = view(
                        now, recent, self.interval, speeds[-HISTORY:], legends=look.explains
                    )
                    look.show(shown)
                    before = now


def view(
    found: status.Status,
    recent: status.Totals,
    seconds: float,
    speeds: list[float],
    *,
    legends: bool = True,
) -> RenderableType:
    """One look. recent: what came in the last `seconds`, or ever where that is 0.

    legends: say what the columns are.
    """
    tables = [_streams(recent, seconds, speeds)]
    if found.draft_pools:
        tables.append(_drafts(found.draft_pools, found.totals))
    tables.append(_servers(found))
    if not legends:
        tables = [dataclasses.replace(one, note="") for one in tables]
    parts: list[RenderableType] = [*tables[:-1], _reasons(found.draft_pools), tables[-1]]
    parts.append(_lost(found))
    return Group(*(one for part in parts if part for one in (part, "")))


def _streams(recent: status.Totals, seconds: float, speeds: list[float]) -> Grid:
    steps = recent.rounds + recent.target_only_steps
    cells = {
        "running": str(recent.running - recent.waiting),
        "waiting": str(recent.waiting),
        "tokens/s" if seconds else "tokens": f"{recent.tokens / (seconds or 1.0):.0f}",
        "tokens/step": f"{recent.tokens / steps:.2f}" if steps else "",
        "drafted": str(recent.drafted),
        "verified": str(recent.verified),
        "accepted": f"{recent.acceptance_rate:.2f}" if recent.verified else "",
        "target-only": f"{recent.target_only_steps / steps:.0%}" if steps else "",
    }
    if speeds:
        cells["speed"] = sparkline(speeds)
    title = "Streams" if seconds else "Streams, since the orchestrator began"
    return Grid(title, tuple(cells), [tuple(cells.values())], STREAMS, words=0)


def sparkline(values: list[float]) -> str:
    """Values as bars, the highest one whole."""
    most = max(values) or 1.0
    return bars([value / most for value in values])


def bars(shares: Sequence[float]) -> str:
    """Shares of 1 as bars."""
    return "".join(_BARS[round(share * (len(_BARS) - 1))] for share in shares)


def _drafts(pools: Sequence[status.DraftPoolStatus], totals: status.Totals) -> Grid:
    headings = ("pool", "state", "ready", "streams", "accepted", "by position")
    rows = [
        (
            pool.name,
            Text(pool.state.value, style=_STYLES[pool.state]),
            f"{pool.replicas_ready}/{pool.replicas}",
            _share(pool, totals),
            "" if pool.acceptance_rate is None else f"{pool.acceptance_rate:.2f}",
            bars(pool.acceptance_by_position),
            "" if pool.speedup is None else _speedup(pool.speedup),
            _wasted(pool.counts),
            _waits(pool.times),
        )
        for pool in pools
    ]
    return Grid("Draft pools", (*headings, "speed-up", "wasted", "token ms"), rows, POOLS, words=2)


def _reasons(pools: Sequence[status.DraftPoolStatus]) -> Text:
    """Why those stand as they do that are not in use."""
    idle = [pool for pool in pools if pool.state is not status.PoolState.IN_USE]
    return Text("\n").join(plain(f"{pool.name}: {pool.reason}") for pool in idle)


def _share(pool: status.DraftPoolStatus, totals: status.Totals) -> str:
    """Streams that run with its drafts, of all; when none runs, of all there were."""
    count, of = pool.counts.running, totals.running
    if not of:
        count, of = pool.counts.streams, totals.streams
    known = 0 < of >= count  # a stream that comes back to a pool is counted there again
    return f"{count} ({count / of:.0%})" if known else str(count)


def _wasted(counts: status.DraftPoolCounts) -> str:
    return f"{counts.wasted / counts.drafted:.0%}" if counts.drafted else ""


def _speedup(speedup: status.Speedup) -> str:
    return f"{speedup.value:.2f} ±{speedup.high - speedup.value:.2f}"


def _waits(times: status.DraftPoolTimes) -> str:
    """Milliseconds until the next draft token, and after a wrong one."""
    waits = (times.next_token_seconds, times.restart_seconds)
    if waits == (None, None):
        return ""
    return " / ".join("?" if wait is None else f"{wait * 1e3:.1f}" for wait in waits)


def _servers(found: status.Status) -> Grid:
    words = ("server", "address", "model", "state")
    headings = (*words, "sessions", "waiting", "queued", "batched", "KV", "RTT ms")
    rows: list[tuple[Cell, ...]] = [
        (
            _named(server),
            server.address,
            server.model.name if server.model else "",
            _state(server),
            *_load(server),
            f"{server.round_trip_seconds * 1e3:.1f}",
        )
        for server in found.servers
    ]
    return Grid("Servers", headings, rows, SERVERS, words=len(words))


def _named(server: status.Server) -> str:
    return f"{server.role.value} {server.pool}" if server.pool else server.role.value


def _load(server: status.Server) -> tuple[str, ...]:
    load = server.load
    counts = load.sessions, load.waiting, load.queued, load.batched_tokens
    return *map(str, counts), _kv(load, server.model.kv if server.model else None)


def _kv(load: Load, kv: KVSize | None) -> str:
    """Tokens promised, of those for new streams, and the reserve beside; none without a model."""
    if not load.kv_pages_total:
        return ""
    if kv is None:
        return f"{load.kv_share():.0%}"
    if kv.is_none:
        return "none"
    kept = f" +{kv.reserve / kv.pages:.0%}" if kv.reserve else ""
    used, of = load.kv_pages_used * kv.page_tokens, kv.most(resumes=False)
    return f"{_short(used)}/{_short(of)} {load.kv_share(kv.reserve):.0%}{kept}"


def _short(count: int) -> str:
    """A count in three digits or so."""
    for unit, name in ((1_000_000_000, "G"), (1_000_000, "M"), (1000, "k")):
        if count >= unit:
            return f"{count / unit:.{1 if count < 10 * unit else 0}f}{name}"
    return str(count)


def _state(server: status.Server) -> Text:
    if server.loading:
        return Text("loading", style="yellow")
    if not server.reachable:
        # One that never answered may load yet; why it does not is told below the table.
        return Text("lost", style="red") if server.model else Text("absent", style="yellow")
    return Text("draining", style="yellow") if server.draining else Text("ready", style="green")


def _lost(found: status.Status) -> Text:
    """Why those servers do not answer that do not."""
    lost = [one for one in found.servers if not one.reachable and one.reason]
    lines = [plain(f"{_named(one)} {one.address}: {one.reason}", "red") for one in lost]
    return Text("\n").join(lines)


def _plain(value: object) -> object:
    """What JSON has no word for: roles and states."""
    return value.value if isinstance(value, status.Role | status.PoolState) else str(value)
