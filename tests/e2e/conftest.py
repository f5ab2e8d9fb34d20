"""Tests with real models."""

import os
from collections.abc import Iterator

import pytest


@pytest.fixture(autouse=True, scope="session")
def drafts_on_torch() -> Iterator[None]:
    """Preparing a real draft takes a minute; tests/contract prepares tiny ones."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PACELINE_DRAFT_ENGINE", os.environ.get("PACELINE_DRAFT_ENGINE", "torch"))
        yield
