"""When an orchestrator is ready: from its first target on, through short outages, not long ones."""

from orchestrator.backends.target_failover import FAILOVER_SECONDS
from orchestrator.serving.readiness import GONE_SECONDS, Readiness

WHY = ["typo:7071 does not resolve: nobody knows it"]


def test_without_a_target_it_never_is() -> None:
    readiness = Readiness()
    for now in (0.0, 1.0, 1e6):
        said = readiness.hindrance(usable=False, why=WHY, now=now)
        assert said == f"no target can be used: {WHY[0]}"
    many = [str(number) for number in range(99)]
    assert readiness.hindrance(usable=False, why=many, now=1.0).endswith(": 0; 1; 2; 3")
    assert readiness.hindrance(usable=False, why=[], now=1.0).endswith(": none is known")


def test_an_outage_that_streams_outlive_does_not_end_it() -> None:
    readiness = Readiness()
    assert readiness.hindrance(usable=True, why=WHY, now=0.0) == ""
    assert readiness.hindrance(usable=False, why=WHY, now=GONE_SECONDS - 1) == ""
    assert GONE_SECONDS > FAILOVER_SECONDS
    assert readiness.hindrance(usable=True, why=(), now=GONE_SECONDS) == ""
    assert readiness.hindrance(usable=False, why=(), now=2 * GONE_SECONDS - 1) == ""


def test_a_long_one_does_until_a_target_is_back() -> None:
    readiness = Readiness()
    readiness.hindrance(usable=True, why=(), now=0.0)
    said = readiness.hindrance(usable=False, why=WHY, now=GONE_SECONDS)
    assert said == f"no target can be used for 60 s now: {WHY[0]}"
    assert readiness.hindrance(usable=True, why=(), now=GONE_SECONDS + 1) == ""


def test_targets_that_load_are_waited_for() -> None:
    readiness = Readiness()
    loads = "target:7071: it is loading: reading weights, 43 %"
    said = readiness.hindrance(usable=False, why=[loads, loads], now=0.0)
    assert said == f"waiting for {loads}; {loads}"
    said = readiness.hindrance(usable=False, why=[loads, *WHY], now=0.0)
    assert said == f"no target can be used: {loads}; {WHY[0]}"
