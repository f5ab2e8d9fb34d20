"""What every Runner keeps to, kept by vLLM's: up to the bits, which its kernels do not keep."""

import numpy as np
import pytest

from paceline.engine.interfaces import Logits, Runner, StartedEngine
from paceline.engine.worker import EngineWorker
from tests.unit.engine import test_runner_conformance as conformance
from tests.unit.engine.test_runner_conformance import (  # noqa: F401
    test_a_copy_is_a_cache_of_its_own,
    test_a_span_truncates_its_cache_to_its_position,
    test_forward_appends_a_span_and_gives_logits_of_its_last_rows,
    test_rows_do_not_depend_on_how_tokens_are_cut,
    test_rows_do_not_depend_on_the_batch,
    test_what_is_truncated_leaves_no_trace,
)

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(1800)]
CLOSE = 0.02
"""Logits are of the order of 10."""


@pytest.fixture
def runner(started: StartedEngine, monkeypatch: pytest.MonkeyPatch) -> Runner:
    def same(rows: list[Logits], expected: Logits) -> None:
        np.testing.assert_allclose(np.concatenate(rows), expected, atol=CLOSE)

    monkeypatch.setattr(conformance, "same", same)
    assert isinstance(started.engine, EngineWorker)
    return started.engine._runner
