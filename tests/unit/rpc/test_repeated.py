"""Callers who ask again until they are served do not fill the log."""

from grpc import StatusCode

from paceline.rpc.repeated import _MOST, AGAIN_SECONDS, Repeats

LOADING = "no target is reachable yet: one is loading: reading weights, {} %"


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def test_a_refusal_is_said_once_a_minute_however_far_loading_is() -> None:
    clock = Clock()
    repeats = Repeats(clock)
    said = [repeats.note("Generate", StatusCode.UNAVAILABLE, LOADING.format(n)) for n in (1, 2.5)]
    assert said == [0, None]
    clock.now += AGAIN_SECONDS
    assert repeats.note("Generate", StatusCode.UNAVAILABLE, LOADING.format(9)) == 1
    assert repeats.note("Generate", StatusCode.UNAVAILABLE, LOADING.format(9)) is None


def test_other_reasons_methods_and_codes_are_apart() -> None:
    repeats = Repeats(Clock())
    for key in (
        ("Generate", StatusCode.UNAVAILABLE, "it is draining"),
        ("Generate", StatusCode.UNAVAILABLE, LOADING),
        ("Tokenize", StatusCode.UNAVAILABLE, LOADING),
        ("Tokenize", StatusCode.RESOURCE_EXHAUSTED, LOADING),
    ):
        assert repeats.note(*key) == 0
        assert repeats.note(*key) is None


def test_what_is_not_tried_again_is_said_each_time() -> None:
    repeats = Repeats(Clock())
    for _ in range(3):
        assert repeats.note("Generate", StatusCode.INVALID_ARGUMENT, "n is 0") == 0


def test_what_is_remembered_has_a_bound() -> None:
    repeats = Repeats(Clock())
    for number in range(3 * _MOST):
        assert repeats.note("Generate", StatusCode.UNAVAILABLE, "x" * number) == 0
        assert len(repeats._said) <= _MOST
