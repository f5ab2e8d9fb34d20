"""What a server process says of itself and its machine."""

import os
import socket
import time
import uuid
from pathlib import Path

import psutil

from paceline import __version__
from paceline.session import Machine

_PROCESS = uuid.uuid4().hex
_CGROUP = Path("/sys/fs/cgroup")


def describe_machine(threads: int = 0) -> Machine:
    """The machine now. threads: of the process's forward pass, 0 where there is none."""
    return Machine(
        version=__version__,
        host=socket.gethostname(),
        cores=len(psutil.Process().cpu_affinity()) if hasattr(os, "sched_getaffinity") else _all(),
        threads=threads,
        memory_bytes=psutil.Process().memory_info().rss,
        memory_available_bytes=min(psutil.virtual_memory().available, _left_to_container()),
        unix_seconds=time.time(),
        process=_PROCESS,
    )


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
