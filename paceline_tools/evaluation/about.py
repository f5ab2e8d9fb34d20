"""Where figures were made."""

import platform
from pathlib import Path

import psutil

from paceline.machine import describe_machine

_PROCESSORS = Path("/proc/cpuinfo")


def machine() -> str:
    """Of this machine: its name, processor, cores and memory."""
    memory = psutil.virtual_memory().total / 1024**3
    cores = describe_machine().cores
    return f"{platform.node()}, {_processor()}, {cores} cores, {memory:.0f} GiB"


def _processor() -> str:
    """Its name; where the system does not tell it, its architecture."""
    try:
        lines = _PROCESSORS.read_text().splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()
