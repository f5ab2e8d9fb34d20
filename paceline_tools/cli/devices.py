"""Whether this machine can have a device at all, before torch takes seconds to say so."""

import ctypes

from paceline.errors import InvalidArgument

DRIVERS = ("libcuda.so.1", "libamdhip64.so")
"""Of the devices that torch calls cuda: NVIDIA's and AMD's."""


def check_device(flag: str, device: str) -> None:
    """Raise InvalidArgument for cuda where no driver is installed."""
    if device.partition(":")[0] == "cuda" and not any(map(_is_there, DRIVERS)):
        limit = "cpu, as no driver of a GPU is installed here (nvidia-smi would show it)"
        raise InvalidArgument.of(flag, device, limit)


def _is_there(library: str) -> bool:
    try:
        ctypes.CDLL(library)
    except OSError:
        return False
    return True
