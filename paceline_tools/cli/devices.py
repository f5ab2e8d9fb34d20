"""Whether this machine can have a device at all, before torch takes seconds to say so."""

import ctypes

from pydantic import TypeAdapter, ValidationError

from paceline.engine.settings import Device
from paceline.errors import InvalidArgument, shown
from paceline.limits import told

DRIVERS = ("libcuda.so.1", "libamdhip64.so")
"""Of the devices that torch calls cuda: NVIDIA's and AMD's."""

_DEVICE: TypeAdapter[str] = TypeAdapter(Device)


def check_device(flag: str, device: str) -> None:
    """Raise InvalidArgument for what is none, and for cuda where no driver is installed."""
    try:
        _DEVICE.validate_python(device)
    except ValidationError as error:
        raise InvalidArgument(f"{flag} is {shown(device)}{told(error.errors()[0])}") from None
    if device.partition(":")[0] == "cuda" and not has_driver():
        limit = "cpu, as no driver of a GPU is installed here (nvidia-smi would show it)"
        raise InvalidArgument.of(flag, device, limit)


def has_driver() -> bool:
    """Whether a driver of a GPU is installed."""
    return any(map(_is_there, DRIVERS))


def _is_there(library: str) -> bool:
    try:
        ctypes.CDLL(library)
    except OSError:
        return False
    return True
