"""Which servers share cores: by what they may use, not by how their machine is called."""

from dataclasses import replace
from pathlib import Path

import pytest

from paceline import machine
from paceline.machine import own_cores
from paceline.protocol.model import Cores, KVSize, ModelInfo
from paceline.protocol.sampling import Sampling
from paceline.rpc.codec.model import model_info_from_proto, model_info_to_proto

ALL = tuple(range(8))
HERE = Cores("boot-a", ALL, 8.0)
MODEL = ModelInfo("big", "print", "words", 100, 1000, (0,), 1, True, "node-a")


def on(host: str, cores: Cores | None) -> ModelInfo:
    return replace(MODEL, host=host, cores=cores)


@pytest.mark.parametrize(
    ("target", "draft", "shared"),
    [
        (on("one", HERE), on("one", HERE), True),
        # Containers of one machine have names of their own.
        (on("one", HERE), on("two", HERE), True),
        # Containers of two machines may have the same.
        (on("app", HERE), on("app", replace(HERE, boot_id="boot-b")), False),
        # Bound to cores of their own.
        (on("a", Cores("x", (0, 1, 2), 3.0)), on("a", Cores("x", (3, 4), 2.0)), False),
        (on("a", Cores("x", (0, 1, 2), 3.0)), on("a", Cores("x", (2, 3), 2.0)), True),
        # Limited in time, on a machine that has cores for both, and on one that has not.
        (on("a", replace(HERE, limit=4.0)), on("b", replace(HERE, limit=4.0)), False),
        (on("a", replace(HERE, limit=6.0)), on("b", replace(HERE, limit=2.5)), True),
        (on("a", replace(HERE, limit=6.0)), on("b", HERE), True),
        # On a device of its own.
        (on("a", Cores("boot-a", (), 0.0)), on("a", HERE), False),
        (on("a", HERE), on("a", Cores("boot-a", (), 0.0)), False),
        # On one GPU, on two of a machine, and on those of two machines.
        (on("a", Cores("x", (), 0.0, "cuda 1")), on("b", Cores("x", (), 0.0, "cuda 1")), True),
        (on("a", Cores("x", (), 0.0, "cuda 1")), on("a", Cores("x", (), 0.0, "cuda 2")), False),
        (on("a", Cores("x", (), 0.0, "cuda 1")), on("a", Cores("y", (), 0.0, "cuda 1")), False),
        (on("a", Cores("x", (), 0.0, "cuda 1")), on("a", HERE), False),
        (on("a", Cores("", (), 0.0, "cuda 1")), on("a", Cores("", (), 0.0, "cuda 1")), True),
        (on("a", Cores("", (), 0.0, "cuda 1")), on("a", Cores("", (), 0.0, "cuda 2")), False),
        # Where nobody can tell, by name.
        (on("a", Cores("", ALL, 8.0)), on("a", Cores("", ALL, 8.0)), True),
        (on("a", Cores("", ALL, 8.0)), on("b", Cores("", ALL, 8.0)), False),
        (on("a", Cores("", (), 0.0)), on("a", Cores("", ALL, 8.0)), False),
        # A server from before this was said.
        (on("a", None), on("a", HERE), True),
        (on("a", None), on("b", HERE), False),
    ],
)
def test_who_shares_cores(target: ModelInfo, draft: ModelInfo, shared: bool) -> None:
    assert draft.shares_cores(target) is shared
    assert target.shares_cores(draft) is shared


@pytest.mark.parametrize("cores", [None, HERE, Cores("", (), 0.0), Cores("x", (), 0.0, "cuda 1")])
@pytest.mark.parametrize("kv", [None, KVSize(512, 128, 8)])
@pytest.mark.parametrize("sampling", [Sampling(), Sampling(temperature=0.0, top_k=20)])
def test_it_is_said_on_the_wire(cores: Cores | None, kv: KVSize | None, sampling: Sampling) -> None:
    model = replace(MODEL, cores=cores, kv=kv, default_sampling=sampling)
    assert model_info_from_proto(model_info_to_proto(model)) == model


@pytest.mark.parametrize(
    ("files", "limit"),
    [
        ({"cpu.max": "max 100000\n"}, None),
        ({"cpu.max": "150000 100000\n"}, 1.5),
        ({"cpu/cpu.cfs_quota_us": "-1\n", "cpu/cpu.cfs_period_us": "100000\n"}, None),
        ({"cpu/cpu.cfs_quota_us": "50000\n", "cpu/cpu.cfs_period_us": "100000\n"}, 0.5),
        ({}, None),
        ({"cpu.max": "\n"}, None),
    ],
)
def test_the_own_cores_are_those_the_container_leaves(
    files: dict[str, str], limit: float | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    monkeypatch.setattr(machine, "_CGROUP", tmp_path)
    monkeypatch.setattr(machine, "_affinity", lambda: (2, 3))
    assert own_cores() == Cores(machine._boot_id(), (2, 3), 2.0 if limit is None else limit)
    assert own_cores("cuda:0").cpus == ()


@pytest.mark.parametrize(("quota", "cores"), [("max", 3), ("250000", 3), ("150000", 2), ("1", 1)])
def test_threads_are_as_many_as_the_cores_that_may_be_used(
    quota: str, cores: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "cpu.max").write_text(f"{quota} 100000\n")
    monkeypatch.setattr(machine, "_CGROUP", tmp_path)
    monkeypatch.setattr(machine, "_affinity", lambda: (2, 3, 5))
    monkeypatch.setattr(machine, "_all", lambda: 64)
    assert machine.usable_cores() == cores


def test_a_machine_that_names_no_boot_is_unknown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(machine, "_BOOT_ID", tmp_path / "nothing")
    assert own_cores().boot_id == ""
