"""What a server process says of itself and its machine."""

import math
import os
import socket
import time
import uuid
from pathlib import Path

import psutil

from paceline import __version__
from paceline.protocol.model import Cores, Machine

_PROCESS = uuid.uuid4().hex
_CGROUP = Path("/sys/fs/cgroup")
_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


def describe_machine(threads: int = 0) -> Machine:
    """The machine now. threads: of the process's forward pass, 0 where there is none."""
    return Machine(
        version=__version__,
        host=socket.gethostname(),
        cores=len(_affinity()),
        threads=threads,
        memory_bytes=psutil.Process().memory_info().rss,
        memory_available_bytes=memory_available(),
        unix_seconds=time.time(),
        process=_PROCESS,
    )


def memory_available() -> int:
    """Bytes that this process and others could still take, within the container's limit."""
    return int(min(psutil.virtual_memory().available, _left_to_container()))


def usable_cores() -> int:
    """How many this process may use: of a container with a limit not all that the machine has."""
    return max(1, min(len(_affinity()), math.ceil(min(_share_of_time(), _all()))))


def own_cores(device: str = "cpu", name: str = "") -> Cores:
    """Those of this process, where its forward pass runs on `device`, as torch names it.

    name: of that device, its own on this machine, where that is known.
    """
    cpus = _affinity() if device.partition(":")[0] == "cpu" else ()
    return Cores(_boot_id(), cpus, min(len(cpus), _share_of_time()), name)


def _boot_id() -> str:
    if socket.gethostname() != os.uname().nodename:
        return ""  # who gives itself another name than the kernel's is told by that name
    try:
        return _BOOT_ID.read_text().strip()
    except OSError:
        return ""


def _affinity() -> tuple[int, ...]:
    if hasattr(os, "sched_getaffinity"):
        return tuple(sorted(os.sched_getaffinity(0)))
    return tuple(range(_all()))


def _share_of_time() -> float:
    """Cores' worth of time that the container may use; without a limit, more than there are."""
    try:  # version 2, then 1
        quota, period = (_CGROUP / "cpu.max").read_text().split()
    except (OSError, ValueError):
        try:
            quota = (_CGROUP / "cpu" / "cpu.cfs_quota_us").read_text().strip()
            period = (_CGROUP / "cpu" / "cpu.cfs_period_us").read_text().strip()
        except OSError:
            return math.inf
    limited = quota.isdecimal() and period.isdecimal() and int(period) > 0
    return int(quota) / int(period) if limited else math.inf


def _all() -> int:
    return os.cpu_count() or 1


def _left_to_container() -> int:
    """Bytes below the container's own limit; without one, more than any machine has."""
    try:
        limit = (_CGROUP / "memory.max").read_text().strip()
        used = int((_CGROUP / "memory.current").read_text())
    except (OSError, ValueError):
        return 2**62
    return 2**62 if limit == "max" else max(0, int(limit) - used)
