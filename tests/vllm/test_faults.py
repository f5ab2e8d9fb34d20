"""Processes that die around a target on vLLM, or with it: the tests of our own engine."""

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from tests import processes
from tests.faults import test_lost_processes
from tests.faults.test_lost_processes import (  # noqa: F401
    models,
    test_a_draft_that_is_killed_stopped_or_replaced_changes_nothing,
    test_a_stream_fails_over_when_its_target_is_killed,
    test_a_target_that_drains_finishes_its_streams_and_takes_no_more,
    test_an_output_is_held_to_its_constraint_on_the_next_target_too,
    test_streams_that_share_their_calls_survive_target_and_draft,
)
from tests.processes import Process
from tests.vllm.targets import are_ready, start_engine, tiny_model

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(1800)]


@asynccontextmanager
async def running_once_ready(
    folder: Path, targets: list[Process], drafts: list[Process], *flags: str
) -> AsyncIterator[Any]:
    try:
        await are_ready(targets)
    except BaseException:
        for one in (*targets, *drafts):
            one.popen.kill()
        raise
    async with processes.running(folder, targets, drafts, *flags) as found:
        yield found


@pytest.fixture(scope="module", autouse=True)
def on_vllm() -> Iterator[None]:
    """All targets of these tests, and models with heads that vLLM takes."""
    pytest.importorskip("vllm", reason="vLLM is not installed; run: make e2e-vllm")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(test_lost_processes, "start_engine", start_engine)
        patch.setattr(test_lost_processes, "running", running_once_ready)
        patch.setattr(test_lost_processes, "tiny_model", tiny_model)
        yield
