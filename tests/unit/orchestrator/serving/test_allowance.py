"""What a caller may take, in a time that the tests make."""

import pytest

from orchestrator.serving.allowance import Allowances
from paceline.errors import ResourceExhausted
from paceline.rpc.caller import Caller, Limits


class Clock:
    """Seconds, set by hand."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


def alice(**limits: int) -> Caller:
    return Caller("alice", proven=True, limits=Limits(**limits))


def refusal(allowances: Allowances, caller: Caller, streams: int = 1) -> ResourceExhausted:
    with pytest.raises(ResourceExhausted) as raised, allowances.taking(caller, streams):
        pass
    return raised.value


def test_streams_at_once_are_bounded_and_come_back() -> None:
    allowances, caller = Allowances(Clock()), alice(streams=3)
    with allowances.taking(caller, 2):
        error = refusal(allowances, caller, 2)
        assert str(error) == ("alice asks for 2 streams beside 2 that run; its limit is 3 at once")
        assert error.retry_after == 1.0
        with allowances.taking(caller, 1), allowances.taking(Caller("bob"), 50):
            pass
    with allowances.taking(caller, 3):
        pass
    assert refusal(allowances, caller, 4).retry_after is None


def test_requests_come_back_evenly() -> None:
    clock = Clock()
    allowances, caller = Allowances(clock), alice(requests_per_minute=2)
    for _ in range(2):
        with allowances.taking(caller, 1):
            pass
    error = refusal(allowances, caller)
    assert str(error) == "alice may ask 2 times a minute"
    assert error.retry_after == pytest.approx(30.0)
    clock.now = 29.0
    assert refusal(allowances, caller).retry_after == pytest.approx(1.0)
    clock.now = 30.0
    with allowances.taking(caller, 1):
        pass
    refusal(allowances, caller)


def test_tokens_may_be_overdrawn_by_one_request_and_are_waited_for() -> None:
    clock = Clock()
    allowances, caller = Allowances(clock), alice(tokens_per_minute=60)
    with allowances.taking(caller, 1) as spend:
        spend(100)
    error = refusal(allowances, caller)
    assert str(error) == "alice may have 60 tokens a minute"
    assert error.retry_after == pytest.approx(41.0)
    clock.now = 41.0
    with allowances.taking(caller, 1):
        pass


def test_limits_that_changed_hold_at_once() -> None:
    allowances = Allowances(Clock())
    with allowances.taking(alice(streams=1), 1):
        refusal(allowances, alice(streams=1))
        with allowances.taking(alice(streams=2), 1), allowances.taking(alice(), 5):
            pass


def test_callers_are_forgotten_only_when_that_gives_nothing_away(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("orchestrator.serving.allowance.MOST_CALLERS", 3)
    allowances = Allowances(Clock())
    with allowances.taking(alice(tokens_per_minute=10), 1) as spend:
        spend(11)
    for index in range(20):
        with allowances.taking(Caller(f"from {index}"), 1):
            pass
    refusal(allowances, alice(tokens_per_minute=10))
    assert len(allowances._uses) <= 4
