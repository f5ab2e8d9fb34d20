"""What the doctor finds in a status."""

from dataclasses import replace

import pytest

from paceline.protocol.model import Cores, KVSize, Machine, ModelInfo, ModelMemory
from paceline.protocol.session import Load
from paceline.protocol.status import (
    DraftPoolStatus,
    PoolState,
    Role,
    Server,
    Status,
    UnresolvedName,
)
from paceline_tools.cli.diagnosis import diagnose
from paceline_tools.cli.findings import Finding, Level

MACHINE = Machine("1.0", "node-a", 8, 8, 4 << 30, 8 << 30, 0.0)
MODEL = ModelInfo("big", "print", "words", 100, 1000, (0,), 1, True, "node-a")
TARGET = Server(Role.TARGET, "10.0.0.1:7071", True, "", MODEL, Load(), False, MACHINE, 0.001, 0.0)
DRAFT = replace(
    TARGET,
    role=Role.DRAFT,
    address="10.0.0.2:7072",
    machine=replace(MACHINE, host="node-b"),
    model=replace(MODEL, name="small", fingerprint="other"),
)
OTHER_NUMERICS = replace(TARGET, model=replace(MODEL, fingerprint="x"))
HEALTHY = Status(replace(MACHINE, threads=0), (TARGET, DRAFT))


def wrong(status: Status, version: str = "1.0") -> list[Finding]:
    """But for what is not encrypted, which that of no deployment over a network is."""
    found = [one for one in diagnose(status, version) if one.level is not Level.OK]
    return [one for one in found if one.subject != "encryption"]


def test_a_healthy_deployment_has_nothing_wrong() -> None:
    assert wrong(HEALTHY) == []
    near = [replace(one, address="127.0.0.1:7071") for one in HEALTHY.servers]
    assert "encryption" not in [one.subject for one in diagnose(with_servers(*near), "1.0")]
    subjects = [finding.subject for finding in diagnose(HEALTHY, "1.0")]
    assert subjects == [
        *("versions", "target 10.0.0.1:7071", "draft 10.0.0.2:7072", "encryption", "model big"),
    ]


OF_TARGET = "target 10.0.0.1:7071"
LOADING = replace(TARGET, reachable=False, reason="loading: reading weights, 43 %", model=None)


def test_a_target_that_loads_is_no_fault() -> None:
    loading, none = wrong(with_servers(LOADING, DRAFT))
    assert (loading.level, none.level) == (Level.NOTE, Level.NOTE)
    assert loading.what == "is loading: reading weights, 43 %"
    assert none.what == "none serves yet: one is loading"


def test_a_draft_that_loads_is_not_asked_for_again() -> None:
    loading, none = wrong(with_servers(TARGET, replace(LOADING, role=Role.DRAFT)))
    assert loading.what == "is loading: reading weights, 43 %"
    assert (none.subject, none.advice) == ("drafts", "wait for it")
    assert none.what == "none is there yet: one is loading, and the target works alone"


def on_vllm(dtype: str) -> ModelInfo:
    fingerprint = f"vllm-0.32.0-{dtype}-CPU_ATTN-tp1-pp1-0123456789abcdef"
    return replace(MODEL, fingerprint=fingerprint, batch_invariant=False)


def test_a_target_on_vllm_is_told_with_its_release_and_why_its_rows_are_not_exact() -> None:
    status = with_target(model=on_vllm("bfloat16"))
    served, inexact = [one for one in diagnose(status, "1.0") if one.subject == OF_TARGET]
    assert served.what.startswith("serves big on vLLM 0.32.0 in bfloat16, 0 sessions")
    assert inexact.what == (
        "its rows are not exact, as vLLM 0.32.0 rounds a row by what is computed beside it: "
        "outputs are equal up to floating point"
    )
    assert inexact.advice == (
        "where two tokens are nearly as good, drafts, load, the prefix cache and failover may "
        "decide; --dtype float32 gave equal tokens where it was tried, and costs speed and memory"
    )


@pytest.mark.parametrize(
    "model", [on_vllm("float32"), replace(MODEL, batch_invariant=False)], ids=["float32", "own"]
)
def test_float32_is_advised_only_on_vllm_in_another_dtype(model: ModelInfo) -> None:
    [_, inexact] = [
        one for one in diagnose(with_target(model=model), "1.0") if one.subject == OF_TARGET
    ]
    assert inexact.advice.endswith("may decide")


def test_our_own_engine_is_not_named() -> None:
    assert found(HEALTHY, OF_TARGET).what == "serves big, 0 sessions, 1.0 ms away"


def test_a_drafter_without_a_model_has_no_kv() -> None:
    ngram = replace(MODEL, name="ngram", kv=KVSize(2**31, 4096), max_positions=2**31)
    status = with_servers(TARGET, replace(DRAFT, model=ngram))
    [found] = [one for one in diagnose(status, "1.0") if one.subject.startswith("memory of draft")]
    assert found.what == "no KV, as it drafts without a model: room for 4,096 streams"


def with_servers(*servers: Server) -> Status:
    return replace(HEALTHY, servers=servers)


def found(status: Status, subject: str) -> Finding:
    [one] = [one for one in diagnose(status, "1.0") if one.subject == subject]
    return one


def test_what_is_not_encrypted_is_named() -> None:
    one = found(HEALTHY, "encryption")
    assert one.level is Level.NOTE
    assert one.what == (
        "the orchestrator's connections to target 10.0.0.1:7071, draft 10.0.0.2:7072 are plaintext"
    )
    assert one.advice.endswith("keep to a network you trust")


@pytest.mark.parametrize(
    ("role", "pool", "setting"),
    [
        (Role.TARGET, "", "--target or PACELINE_ORCHESTRATOR_TARGET has it and it must be"),
        (Role.DRAFT, "small", "--draft or PACELINE_ORCHESTRATOR_DRAFT has it, in its pool small,"),
    ],
)
def test_a_name_that_does_not_resolve_is_named_with_its_setting(
    role: Role, pool: str, setting: str
) -> None:
    name = UnresolvedName(role, pool, "nowhere:7071", "nowhere:7071 does not resolve: no such name")
    one = found(replace(HEALTHY, unresolved=(name,)), "name nowhere:7071")
    assert one.level is Level.WRONG
    assert one.what == "does not resolve: no such name"
    assert setting in one.advice


SIZED = replace(
    MODEL,
    max_positions=4096,
    kv=KVSize(512, 136, 8),
    cores=Cores("boot", (0, 1), 2.0),
    memory=ModelMemory(3 << 30, 0, 28672),
)


def test_what_memory_holds_is_told_in_gib_and_streams() -> None:
    one = found(with_target(model=SIZED), "memory of target 10.0.0.1:7071")
    assert one.level is Level.OK
    assert one.what == (
        "weights 3.00 GiB; KV up to 1.86 GiB; room for 65,536 tokens: 32 streams of 2,048 at once; "
        "4,096 more are for streams that resume"
    )
    quantized = replace(SIZED, memory=ModelMemory(1 << 30, 1 << 28, 28672), max_positions=1024)
    one = found(with_draft(model=quantized), "memory of draft 10.0.0.2:7072")
    assert "weights 1.00 GiB, their quantized copies 0.25 GiB; KV" in one.what
    assert "64 streams of 1,024 at once" in one.what
    simulated = replace(SIZED, memory=None)
    one = found(with_target(model=simulated), "memory of target 10.0.0.1:7071")
    room = "room for 65,536 tokens: 32 streams of 2,048 at once"
    assert one.what == f"{room}; 4,096 more are for streams that resume"
    unkept = replace(simulated, kv=KVSize(512, 128, 0))
    assert found(with_target(model=unkept), "memory of target 10.0.0.1:7071").what == room
    lookup = replace(simulated, kv=KVSize(2**31, 4096), max_positions=2**31)
    one = found(with_draft(model=lookup), "memory of draft 10.0.0.2:7072")
    assert one.what == "no KV, as it drafts without a model: room for 4,096 streams"


def test_kv_that_will_not_fit_is_wrong() -> None:
    machine = replace(MACHINE, memory_available_bytes=3 << 29)
    status = with_target(model=SIZED, machine=machine, load=Load(kv_pages_used=10))
    [one] = [one for one in wrong(status) if "memory" in one.subject]
    assert one.what == "KV may grow by 0.22 GiB more than the machine has left"
    assert one.advice == "give it more memory, or lower --kv-tokens"
    on_device = replace(SIZED, cores=Cores("boot", (), 0.0))
    assert wrong(with_target(model=on_device, machine=machine)) == []


def with_target(**fields: object) -> Status:
    return replace(HEALTHY, servers=(replace(TARGET, **fields), DRAFT))  # type: ignore[arg-type]


def with_draft(**fields: object) -> Status:
    return replace(HEALTHY, servers=(TARGET, replace(DRAFT, **fields)))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("status", "level", "words", "advice"),
    [
        (
            with_target(machine=replace(MACHINE, version="0.9")),
            Level.NOTE,
            "target 10.0.0.1:7071 has 0.9",
            "one version",
        ),
        (with_draft(reachable=False, reason="refused"), Level.WRONG, "refused", "running"),
        (
            replace(
                HEALTHY, draft_pools=(DraftPoolStatus("x", state=PoolState.BENCHED, reason="why"),)
            ),
            Level.NOTE,
            "why",
            "better draft",
        ),
        (with_target(draining=True), Level.NOTE, "draining", "streams have ended"),
        (with_draft(round_trip_seconds=0.02), Level.NOTE, "20.0 ms away", "closer"),
        (
            with_target(model=replace(MODEL, batch_invariant=False)),
            Level.NOTE,
            "not exact",
            "drafts, load, the prefix cache and failover may decide",
        ),
        (
            with_draft(wrong_vocabulary=True, vocabulary="3 of 9 tokens the same"),
            Level.WRONG,
            "vocabulary",
            "tokenizer",
        ),
        (with_draft(clock_offset_seconds=-3.0), Level.NOTE, "-3.0 s off", "NTP"),
        (
            with_draft(machine=replace(MACHINE, host="node-b", cores=2)),
            Level.WRONG,
            "8 threads on 2 cores",
            "--threads 2",
        ),
        (
            with_target(machine=replace(MACHINE, memory_available_bytes=100 << 20)),
            Level.WRONG,
            "100 MiB of memory are left",
            "--kv-tokens",
        ),
        (
            replace(
                HEALTHY, servers=(TARGET, replace(TARGET, model=replace(MODEL, fingerprint="x")))
            ),
            Level.WRONG,
            "2 different numerics",
            "fail over",
        ),
        (
            replace(HEALTHY, servers=(TARGET, TARGET, DRAFT)),
            Level.WRONG,
            "2 targets share 8 cores",
            "add up to 8, not 16",
        ),
        (replace(HEALTHY, servers=(DRAFT,)), Level.WRONG, "nothing can be served", "--target"),
        (
            replace(HEALTHY, servers=(TARGET,), draft_pools=(DraftPoolStatus("x"),)),
            Level.NOTE,
            "the target works alone",
            "--draft",
        ),
    ],
)
def test_what_is_wrong_is_named_with_what_to_do(
    status: Status, level: Level, words: str, advice: str
) -> None:
    found = [finding for finding in wrong(status) if words in finding.what]
    assert [finding.level for finding in found] == [level]
    assert advice in found[0].advice


def test_a_draft_that_was_not_asked_for_is_nothing_wrong() -> None:
    status = replace(HEALTHY, servers=(TARGET,))
    assert wrong(status) == []
    drafts = found(status, "drafts")
    assert drafts.what == "none was asked for: the target works alone"
    assert drafts.advice == "a draft may make outputs faster: paceline evaluate says by how much"


def test_lookup_fits_any_vocabulary() -> None:
    assert wrong(with_draft(model=replace(MODEL, vocabulary_hash=""))) == []


def test_containers_are_told_by_their_machine_not_by_their_name() -> None:
    def target(host: str, boot_id: str) -> Server:
        cores = Cores(boot_id, tuple(range(8)), 8.0)
        model, machine = replace(MODEL, cores=cores), replace(MACHINE, host=host)
        return replace(TARGET, address=f"{host}-{boot_id}:7071", model=model, machine=machine)

    def shared(*targets: Server) -> list[Finding]:
        found = wrong(replace(HEALTHY, servers=(*targets, DRAFT)))
        return [finding for finding in found if "share" in finding.what]

    assert len(shared(target("pod-1", "a"), target("pod-2", "a"))) == 1
    assert not shared(target("app", "a"), target("app", "b"))
