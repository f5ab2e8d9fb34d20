"""What all tests share."""

import os

# Triton reads it when it is first imported: without a GPU its kernels run in its interpreter.
DEVICE = os.environ.setdefault("DEVICE_OF_TESTS", "cpu")
if DEVICE == "cpu":
    os.environ.setdefault("TRITON_INTERPRET", "1")

from collections.abc import Iterator
from typing import Any

import pytest
import structlog
import torch
from hypothesis import settings

settings.register_profile("default", deadline=None, print_blob=True)
settings.load_profile("default")
os.environ["TQDM_DISABLE"] = "1"


@pytest.fixture(autouse=True, scope="session")
def one_thread() -> None:
    """Tiny models are quicker on one thread than on two that wait for each other."""
    torch.set_num_threads(1)


@pytest.hookimpl(trylast=True)  # behind pytest-randomly
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The long ones first: one at the end leaves the other worker without work."""
    items.sort(
        key=lambda item: not (item.get_closest_marker("slow") or "faults" in item.path.parts)
    )


@pytest.fixture(autouse=True)
def no_logger_is_kept(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A logger kept by the first test that logs through it hides its lines from all later tests."""
    configure = structlog.configure

    def without_keeping(**settings: Any) -> None:
        configure(**{**settings, "cache_logger_on_first_use": False})

    monkeypatch.setattr(structlog, "configure", without_keeping)
    yield
    structlog.reset_defaults()
