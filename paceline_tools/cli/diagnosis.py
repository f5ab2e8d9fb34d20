"""What is wrong with a deployment, and what to do, as far as its status tells. Pure."""

from collections import defaultdict
from collections.abc import Iterator

from paceline.addresses import is_near
from paceline.protocol.model import Machine
from paceline.protocol.status import PoolState, Role, Server, Status, UnresolvedName
from paceline_tools.cli.exactness import engine, exactness
from paceline_tools.cli.findings import Finding, Level
from paceline_tools.cli.memory import memory

CLOCK_SECONDS = 1.0
"""Clocks that are further apart make logs and certificates hard to trust."""
LEAST_MEMORY = 1024**3
SLOW_ROUND_TRIP = 0.005


def diagnose(status: Status, version: str) -> Iterator[Finding]:
    """All there is to say. version: the one of who asks."""
    yield from _versions(status, version)
    yield from map(_unresolved, status.unresolved)
    for server in status.servers:
        yield _reachability(server)
    yield from _plaintext(status)
    yield from _targets(status)
    yield from _drafts(status)
    for server in status.servers:
        yield from memory(server)
    for server in status.servers:
        if server.machine is not None:
            yield from _machine(f"{server.role.value} {server.address}", server, server.machine)
    yield from _shared_cores(status)


def _versions(status: Status, version: str) -> Iterator[Finding]:
    machines = {f"{one.role.value} {one.address}": one.machine for one in status.servers}
    machines["orchestrator"] = status.machine
    other = [
        f"{name} has {machine.version}"
        for name, machine in machines.items()
        if machine is not None and machine.version != version
    ]
    if other:
        what = f"this command has {version}, {', '.join(other)}"
        yield Finding(Level.NOTE, "versions", what, "deploy one version everywhere")
    else:
        yield Finding(Level.OK, "versions", f"all {version}")


def _unresolved(name: UnresolvedName) -> Finding:
    flag, variable = f"--{name.role.value}", f"PACELINE_ORCHESTRATOR_{name.role.value.upper()}"
    pool = f", in its pool {name.pool}," if name.pool else ""
    advice = f"the orchestrator's {flag} or {variable} has it{pool} and it must be a name that "
    advice += "the orchestrator's machine knows"
    what = name.reason.removeprefix(f"{name.name} ")
    return Finding(Level.WRONG, f"name {name.name}", what, advice)


def _plaintext(status: Status) -> Iterator[Finding]:
    """Connections of the orchestrator that leave its machine: none is encrypted."""
    far = [one for one in status.servers if one.reachable and not is_near(one.address)]
    if far:
        named = ", ".join(f"{one.role.value} {one.address}" for one in far)
        advice = "prompts and outputs can be read on the way: keep to a network you trust"
        what = f"the orchestrator's connections to {named} are plaintext"
        yield Finding(Level.NOTE, "encryption", what, advice)


def _reachability(server: Server) -> Finding:
    subject = f"{server.role.value} {server.address}"
    if server.loading:
        return Finding(Level.NOTE, subject, f"is {server.reason}", "wait: it serves when it has")
    if not server.reachable:
        what = f"does not answer the orchestrator: {server.reason}"
        return Finding(
            Level.WRONG, subject, what, "is it running, ready, and is the address right?"
        )
    if server.draining:
        return Finding(Level.NOTE, subject, "is draining", "it stops when its streams have ended")
    name = f"{server.model.name}{engine(server.model)}" if server.model else "?"
    milliseconds = server.round_trip_seconds * 1e3
    what = f"serves {name}, {server.load.sessions} sessions, {milliseconds:.1f} ms away"
    if server.round_trip_seconds > SLOW_ROUND_TRIP:
        advice = "every round pays this: move it closer to the orchestrator"
        return Finding(Level.NOTE, subject, what, advice)
    return Finding(Level.OK, subject, what)


def _targets(status: Status) -> Iterator[Finding]:
    targets = [one for one in status.of(Role.TARGET) if one.reachable and one.model]
    if not targets:
        advice = "start a target server, and name its address in the orchestrator's --target"
        if any(one.loading for one in status.of(Role.TARGET)):
            yield Finding(Level.NOTE, "targets", "none serves yet: one is loading", "wait for it")
        else:
            what = "none is reachable: nothing can be served"
            yield Finding(Level.WRONG, "targets", what, advice)
    numerics: dict[str, set[str]] = defaultdict(set)
    for one in targets:
        if one.model is not None:
            numerics[one.model.name].add(one.model.fingerprint)
            if not one.model.batch_invariant:
                yield exactness(f"target {one.address}", one.model)
    for name, fingerprints in numerics.items():
        if len(fingerprints) > 1:
            what = f"replicas have {len(fingerprints)} different numerics"
            advice = "streams do not fail over between them: same image, dtype and instruction set"
            yield Finding(Level.WRONG, f"model {name}", what, advice)
        else:
            yield Finding(Level.OK, f"model {name}", f"fingerprint {min(fingerprints)}")


def _drafts(status: Status) -> Iterator[Finding]:
    drafts = [one for one in status.of(Role.DRAFT) if one.reachable and one.model]
    unresolved = any(one.role is Role.DRAFT for one in status.unresolved)
    if not (status.of(Role.DRAFT) or status.draft_pools or unresolved):
        advice = "a draft may make outputs faster: paceline evaluate says by how much"
        yield Finding(Level.OK, "drafts", "none was asked for: the target works alone", advice)
    elif not drafts and any(one.loading for one in status.of(Role.DRAFT)):
        what = "none is there yet: one is loading, and the target works alone"
        yield Finding(Level.NOTE, "drafts", what, "wait for it")
    elif not drafts:
        advice = "start a draft server, and name its address in the orchestrator's --draft"
        yield Finding(Level.NOTE, "drafts", "none is reachable: the target works alone", advice)
    for one in drafts:
        if one.wrong_vocabulary:
            what = f"its vocabulary is not the target's: {one.vocabulary}: it is benched"
            advice = "take a draft with the target's tokenizer, of the same model family"
            yield Finding(Level.WRONG, f"draft {one.address}", what, advice)
        elif one.vocabulary:
            what = f"of the target's vocabulary: {one.vocabulary}; others are never drafted"
            yield Finding(Level.OK, f"draft {one.address}", what)
    for pool in status.draft_pools:
        if pool.state in {PoolState.BENCHED, PoolState.PROBING}:
            advice = "put a better draft in its place, or take it away"
            yield Finding(Level.NOTE, f"draft pool {pool.name}", pool.reason, advice)


def _machine(subject: str, server: Server, machine: Machine) -> Iterator[Finding]:
    offset = abs(server.clock_offset_seconds) - server.round_trip_seconds
    if offset > CLOCK_SECONDS:
        what = f"its clock is {server.clock_offset_seconds:+.1f} s off the orchestrator's"
        yield Finding(Level.NOTE, subject, what, "let the machines keep time by NTP")
    if machine.threads > machine.cores:
        what = f"{machine.threads} threads on {machine.cores} cores"
        yield Finding(Level.WRONG, subject, what, f"set --threads {machine.cores}")
    if machine.memory_available_bytes < LEAST_MEMORY:
        left = machine.memory_available_bytes / 1024**2
        yield Finding(
            Level.WRONG,
            subject,
            f"{left:.0f} MiB of memory are left beside its {machine.memory_bytes / 1024**2:.0f}",
            "give it more, or lower --kv-tokens",
        )


def _shared_cores(status: Status) -> Iterator[Finding]:
    """Servers on one machine take turns as draft and target, but not as two of a kind."""
    for role in Role:
        together: dict[str, list[Machine]] = defaultdict(list)
        for server in status.of(role):
            if server.reachable and server.machine is not None and server.machine.threads:
                together[_machine_of(server, server.machine)].append(server.machine)
        for machines in together.values():
            host = machines[0].host
            threads = sum(machine.threads for machine in machines)
            if len(machines) > 1 and threads > machines[0].cores:
                what = f"{len(machines)} {role.value}s share {machines[0].cores} cores"
                advice = f"set --threads so that they add up to {machines[0].cores}, not {threads}"
                yield Finding(Level.WRONG, f"machine {host}", what, advice)


def _machine_of(server: Server, machine: Machine) -> str:
    """Which one it is: by its start where that is known, as names are those of containers."""
    cores = server.model.cores if server.model is not None else None
    return (cores.boot_id if cores is not None else "") or machine.host
