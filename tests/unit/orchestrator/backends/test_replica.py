"""What a server says of its model is used as far as it can hold."""

from dataclasses import replace
from typing import Any, cast

import pytest
import structlog

from orchestrator.backends import replica as replicas
from orchestrator.backends.replica import Replica
from paceline.protocol.model import ModelInfo
from paceline.protocol.sampling import Sampling

MODEL = ModelInfo("tiny", "print", "words", 300, 64, (), 1, True, "here")


def test_sampling_that_no_request_could_ask_for_is_left_out_and_said_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # One that was used before, by another test, may not be captured.
    monkeypatch.setattr(replicas, "_log", structlog.get_logger())
    replica = Replica("here:1", cast("Any", None))
    wrong = replace(MODEL, default_sampling=Sampling(temperature=float("nan"), top_k=3))
    with structlog.testing.capture_logs() as logs:
        assert replica._checked(wrong) == MODEL
        replica.health.answer(0.001, draining=False)
        assert replica._checked(wrong) == MODEL
    [log] = logs
    assert log["event"] == "a server's default sampling is left out"
    assert log["reason"] == "sampling.temperature is nan; it must be from 0 to 100"


@pytest.mark.parametrize("sampling", [Sampling(), Sampling(0.0, 20, 0.9)])
def test_what_a_request_could_ask_for_stays(sampling: Sampling) -> None:
    model = replace(MODEL, default_sampling=sampling)
    assert Replica("here:1", cast("Any", None))._checked(model) == model
