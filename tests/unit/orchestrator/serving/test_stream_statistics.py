"""What one stream did, as its metrics see it while it runs."""

from orchestrator.serving.stream_statistics import StreamStatistics, TimedStep
from paceline.protocol.verdict import TimedVerdict, Verdict


def arrived(at: float, asked: float, *, waited: float = 0.0, tokens: int = 1) -> TimedVerdict:
    verdict = Verdict(0, tuple(range(tokens)), waited_seconds=waited)
    return TimedVerdict(verdict, arrived_seconds=at, asked_seconds=asked)


def test_it_waited_until_a_target_began_with_it() -> None:
    statistics = StreamStatistics(10.0)
    assert statistics.queue_seconds is None
    statistics.observe(arrived(16.0, 11.5, waited=4.0), 0.0)
    assert statistics.queue_seconds == 1.5 + 4.0
    statistics.observe(arrived(19.0, 16.0, waited=2.0), 0.0)  # preempted: its first token has come
    assert statistics.queue_seconds == 1.5 + 4.0
    assert (statistics.ttft_seconds, statistics.seconds) == (6.0, 9.0)


def test_the_time_between_outputs_counts_whatever_took_it() -> None:
    statistics = StreamStatistics(0.0)
    statistics.observe(arrived(1.0, 0.5), 0.0)
    statistics.observe(arrived(1.5, 1.0, tokens=4), 0.0)
    statistics.interrupted()  # its target was lost: no round took the time, its reader waited
    statistics.observe(arrived(3.5, 3.0), 0.0)
    assert statistics.gaps == [0.5, 2.0]


def test_a_step_begins_when_it_is_asked_for_or_when_the_one_before_has_come() -> None:
    statistics = StreamStatistics(1.0)
    verdict = Verdict(0, (1, 2), verified=3, accepted=1, step_seconds=0.25)
    first = TimedVerdict(verdict, arrived_seconds=3.0, asked_seconds=2.0)
    assert statistics.step(first, 0.5) == TimedStep(2.0, 3.0, 0.5, 0.25, 3, 1)
    statistics.observe(first, 0.5)
    asked_while_it_ran = arrived(4.0, 2.0)
    assert statistics.step(asked_while_it_ran, 0.0) == TimedStep(3.0, 4.0, 0.0, 0.0, 0, 0)
