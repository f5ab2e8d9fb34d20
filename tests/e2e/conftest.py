"""Tests with real models."""

import os
from collections.abc import Iterator

import pytest


@pytest.fixture(autouse=True, scope="session")
def drafts_on_torch() -> Iterator[None]:
    """Preparing a real draft takes a minute; tests/contract prepares tiny ones."""
    before = os.environ.get("PACELINE_DRAFT_ENGINE")
    os.environ["PACELINE_DRAFT_ENGINE"] = before or "torch"
    yield
    if before is None:
        del os.environ["PACELINE_DRAFT_ENGINE"]
