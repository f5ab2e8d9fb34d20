"""Streamed text breaks between words, and nothing of it is lost."""

import re

import pytest
from rich.cells import cell_len

from paceline_tools.cli.word_wrap import WordWrap

PROSE = "A B-tree keeps keys sorted, and each node has many of them: so it is flat. " * 9
CODE = "def f(x):\n\tif x:\n\t\treturn [y for y in x if y]  # those that are\n\n\n    z = 1\n"
WIDE = "B树是一种自平衡的树,能够保持数据有序。" * 7


_CLEARED = re.compile(r"\x1b\[(\d+)G\x1b\[K")


def wrapped(text: str, width: int, step: int) -> str:
    """As shown when it comes in pieces of `step` characters."""
    wrap = WordWrap[int]()
    pieces = [text[at : at + step] for at in range(0, len(text), step)]
    shown = [one for at, piece in enumerate(pieces) for one in wrap.add(piece, at, width)]
    return seen("".join(text for text, _ in shown))


def seen(written: str) -> str:
    """What a terminal shows of it."""
    while cleared := _CLEARED.search(written):
        before, line = written[: cleared.start()], ""
        before, end, last = before.rpartition("\n")
        for character in last:
            line += character if cell_len(line + character) < int(cleared[1]) else ""
        written = f"{before}{end}{line}{written[cleared.end() :]}"
    return written


@pytest.mark.parametrize("step", [1, 3, 7, 1000])
@pytest.mark.parametrize("width", [20, 80, 120])
def test_lines_end_between_words(width: int, step: int) -> None:
    lines = wrapped(PROSE, width, step).splitlines()
    assert max(map(len, lines)) <= width
    assert " ".join(lines).split() == PROSE.split()
    assert not any(line.startswith(" ") for line in lines)
    after = [line.split()[0] for line in lines[1:]]
    assert all(len(line) + 1 + len(word) > width for line, word in zip(lines, after, strict=False))


@pytest.mark.parametrize("step", [1, 4, 1000])
def test_what_fits_stays_as_it_is(step: int) -> None:
    assert wrapped(CODE, 80, step) == CODE


def test_a_tab_takes_cells_to_the_next_stop() -> None:
    assert wrapped("\t\tabc de", 20, 2) == "\t\tabc\nde"
    assert wrapped("a\tbc de", 14, 2) == "a\tbc de"


@pytest.mark.parametrize("step", [1, 3, 1000])
def test_wide_characters_break_anywhere_and_are_never_cut(step: int) -> None:
    lines = wrapped(WIDE, 21, step).splitlines()
    assert "".join(lines) == WIDE
    assert max(map(cell_len, lines)) <= 21


@pytest.mark.parametrize("step", [1, 9, 1000])
def test_a_word_longer_than_a_line_is_left_to_the_terminal(step: int) -> None:
    word = "w" * 50
    assert wrapped(f"see {word} there", 20, step).replace("\n", " ").split() == [
        "see",
        word,
        "there",
    ]


def test_a_word_is_shown_as_it_grows_and_moved_over_the_edge() -> None:
    wrap = WordWrap[int]()
    assert list(wrap.add("one tw", 1, 9)) == [("one", 1), (" ", 1), ("tw", 1)]
    assert list(wrap.add("o", 2, 9)) == [("o", 2)]
    assert list(wrap.add(" t", 3, 9)) == [(" ", 3), ("t", 3)]
    assert list(wrap.add("hree", 4, 9)) == [("\x1b[9G\x1b[K\n", 4), ("t", 3), ("hree", 4)]
    assert list(wrap.add(" ", 5, 9)) == []
