"""Stop strings, against their definition: the text up to the first that is complete."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.serving.text.stop_strings import StopStrings

LETTERS = "ab"
strings = st.lists(st.text(LETTERS, min_size=1, max_size=4), max_size=3).map(tuple)
pieces = st.lists(st.text(LETTERS, max_size=4), max_size=8)


def by_definition(text: str, stop: tuple[str, ...], unarmed: int = 0) -> tuple[str, str | None]:
    """Reads letter by letter; strings that end within the first `unarmed` do not count."""
    for end in range(unarmed + 1, len(text) + 1):
        complete = [one for one in stop if text[:end].endswith(one)]
        if complete:
            longest = max(complete, key=len)
            return text[: end - len(longest)], longest
    return text, None


@given(strings, pieces)
def test_text_ends_where_the_first_string_begins_however_it_is_cut(
    stop: tuple[str, ...], cut: list[str]
) -> None:
    expected, found = by_definition("".join(cut), stop)
    watch = StopStrings(stop)
    let_through = ""
    for piece in cut:
        let_through += watch.feed(piece)
        assert expected.startswith(let_through), "a part of a stop string was sent"
        if watch.found:
            break
    assert let_through + watch.flush() == expected
    assert watch.found == found


@given(strings, pieces, st.integers(0, 8))
def test_a_string_counts_when_its_last_letter_came_armed(
    stop: tuple[str, ...], cut: list[str], armed_from: int
) -> None:
    unarmed = len("".join(cut[:armed_from]))
    expected, found = by_definition("".join(cut), stop, unarmed)
    watch = StopStrings(stop)
    let_through = ""
    for index, piece in enumerate(cut):
        let_through += watch.feed(piece, armed=index >= armed_from)
        assert expected.startswith(let_through)
    assert let_through + watch.flush() == expected
    assert watch.found == found


@given(strings, pieces, st.integers(0, 8))
def test_a_string_that_is_kept_is_let_through_and_nothing_waits_for_it(
    stop: tuple[str, ...], cut: list[str], armed_from: int
) -> None:
    """Else it is the same string, found as soon."""
    kept, watch = StopStrings(stop, keep=True), StopStrings(stop)
    shown = let_through = ""
    for index, piece in enumerate(cut):
        shown += kept.feed(piece, armed=index >= armed_from)
        let_through += watch.feed(piece, armed=index >= armed_from)
        assert kept.found == watch.found
        if kept.found is None:
            assert shown == "".join(cut[: index + 1])
        else:
            assert shown == let_through + kept.found
    assert kept.flush() == ""


@pytest.mark.parametrize(
    ("stop", "unarmed", "armed", "text", "found"),
    [
        (("n", "nQ"), "n", "e", "ne", None),
        (("n", "nQ"), "n", "Q", "", "nQ"),
        (("n", "nQ"), "n", "en", "ne", "n"),
        (("ab", "abc"), "ab", "c", "", "abc"),
        (("aa",), "a", "a", "", "aa"),
        (("aa",), "aa", "a", "a", "aa"),
        (("b", "abcd"), "xab", "cx", "xabcx", None),
        (("b", "abcd"), "xab", "cb", "xabc", "b"),
    ],
)
def test_what_was_complete_before_it_counts_never_counts_later(
    stop: tuple[str, ...], unarmed: str, armed: str, text: str, found: str | None
) -> None:
    watch = StopStrings(stop)
    shown = watch.feed(unarmed, armed=False) + watch.feed(armed)
    assert (shown + watch.flush(), watch.found) == (text, found)


def test_nothing_comes_behind_a_string_that_was_found() -> None:
    watch = StopStrings(("b",))
    assert watch.feed("ab") + watch.feed("cb") + watch.flush() == "a"


def test_what_may_be_a_beginning_is_held_back_and_no_more() -> None:
    watch = StopStrings(("\nUser:", "END"))
    assert watch.feed("ok\nUse") == "ok"
    assert watch.feed("less") == "\nUseless"
    assert watch.feed(" E") == " "
    assert watch.flush() == "E"


def test_of_two_complete_at_once_the_longer_counts() -> None:
    watch = StopStrings(("b", "ab"))
    assert watch.feed("xab") == "x"
    assert watch.found == "ab"
