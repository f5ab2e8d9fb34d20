"""A GPU that is not there is told at once."""

import pytest

from paceline.errors import InvalidArgument
from paceline_tools.cli import devices
from paceline_tools.cli.devices import check_device


@pytest.mark.parametrize("device", ["cuda", "cuda:1"])
def test_cuda_without_a_driver_is_refused(device: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(devices, "DRIVERS", ("libnowhere.so.1",))
    with pytest.raises(InvalidArgument) as raised:
        check_device("--draft-device", device)
    assert str(raised.value) == (
        f"--draft-device is {device!r}; it must be cpu, as no driver of a GPU is installed here "
        "(nvidia-smi would show it)"
    )


def test_what_is_no_device_is_refused() -> None:
    with pytest.raises(InvalidArgument) as raised:
        check_device("--device", "gpu")
    assert str(raised.value) == (
        "--device is 'gpu'; it must be cpu, cuda, mps or xpu, or one by number, as cuda:1"
    )


def test_what_may_be_there_is_left_to_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(devices, "DRIVERS", ("libnowhere.so.1",))
    for device in ("cpu", "mps"):
        check_device("--device", device)
    monkeypatch.setattr(devices, "DRIVERS", ("libnowhere.so.1", "libc.so.6"))
    check_device("--device", "cuda")
