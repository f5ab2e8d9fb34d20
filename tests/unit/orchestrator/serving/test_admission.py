"""What no target could ever hold is refused by name; what one could is not."""

import pytest

from orchestrator.serving.admission import fit_kv
from paceline.errors import InvalidArgument
from paceline.protocol.model import KVSize
from paceline.protocol.sampling import SamplingParams
from paceline.protocol.session import Opening

SMALL, LARGE = KVSize(512, 2), KVSize(512, 8, reserve=2)


def opening(prompt: int, max_tokens: int, output: int = 0) -> Opening:
    return Opening("kv", (1,) * prompt, SamplingParams(), 0, max_tokens, (2,) * output)


@pytest.mark.parametrize(
    ("sizes", "one", "limit"),
    [
        ([SMALL], opening(1000, 24), None),
        ([SMALL], opening(1000, 25), "is 1025; it must be at most 1024"),
        ([SMALL, LARGE], opening(1000, 25), None),
        ([LARGE], opening(3000, 72), None),
        ([LARGE], opening(3000, 73), "is 3073; it must be at most 3072"),
        ([LARGE], opening(3000, 1096, output=1), None),
        ([LARGE], opening(3000, 1097, output=1), "is 4097; it must be at most 4096"),
        ([None], opening(9000, 1000), None),
        ([SMALL, None], opening(9000, 1000), None),
        ([], opening(9000, 1000), None),
    ],
)
def test_one_stream_must_fit_the_largest_target(
    sizes: list[KVSize | None], one: Opening, limit: str | None
) -> None:
    if limit is None:
        assert fit_kv([one], sizes, shorten=False) == [one]
        return
    with pytest.raises(InvalidArgument, match=f"^tokens of prompt and max_tokens together {limit}"):
        fit_kv([one], sizes, shorten=False)


def test_choices_need_not_fit_together_as_those_that_find_kv_full_wait() -> None:
    choices = [opening(500, 100)] * 16
    assert fit_kv(choices, [SMALL], shorten=False) == choices


def test_a_request_that_names_no_max_tokens_gets_what_there_is_room_for() -> None:
    [found] = fit_kv([opening(1000, 1024)], [SMALL], shorten=True)
    assert found.max_tokens == 24
    [found] = fit_kv([opening(10, 100)], [SMALL], shorten=True)
    assert found.max_tokens == 100
    with pytest.raises(InvalidArgument, match="prompt's length is 1024; it must be under 1024"):
        fit_kv([opening(1024, 1024)], [SMALL], shorten=True)
