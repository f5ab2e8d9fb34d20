"""Text that comes in pieces, broken between words where a line of a terminal ends. Pure."""

import re
from collections.abc import Iterator
from typing import Generic, TypeVar

from rich.cells import cell_len

Style = TypeVar("Style")
_PIECES = re.compile(r"\n|[ \t]+|[^ \t\n]+")
_TAB = 8
_CLEAR_FROM = "\x1b[{}G\x1b[K"
"""Go to a column, from 1, and clear the line from there on."""


class WordWrap(Generic[Style]):
    """What comes is shown at once; a word that grows over the edge is moved to the next line."""

    def __init__(self) -> None:
        """At the beginning of a line."""
        self._column = 0
        self._start = 0
        self._blanks: list[tuple[str, Style]] = []
        self._word: list[tuple[str, Style]] = []
        self._is_broken = False

    def add(self, text: str, style: Style, width: int) -> Iterator[tuple[str, Style]]:
        """What to write, in its styles. width: of a line, in cells."""
        for piece in _PIECES.findall(text):
            if piece == "\n":
                self._end_word()
                self._blanks, self._column = [], 0
                yield piece, style
            elif piece[0] in " \t":
                self._end_word()
                self._blanks.append((piece, style))
            elif cell_len(piece) == len(piece):
                yield from self._grow(piece, style, width)
            else:  # between wide characters a line may break, as in Chinese
                for character in piece:
                    if cell_len(character) > 1:
                        self._end_word()
                    yield from self._grow(character, style, width)

    def _end_word(self) -> None:
        self._word, self._is_broken = [], False

    def _grow(self, text: str, style: Style, width: int) -> Iterator[tuple[str, Style]]:
        """More of a word."""
        if not (self._word or self._is_broken):
            self._start = _cells(self._blanks, self._column)
        length = _cells([*self._word, (text, style)], 0)
        fits = self._start + length <= width and not self._is_broken
        if not fits and self._start and length <= width and not self._is_broken:
            moved = _CLEAR_FROM.format(self._start + 1) if self._word else ""
            yield f"{moved}\n", style
            yield from self._word
            self._start, self._blanks, fits = 0, [], True
        yield from self._blanks
        yield text, style
        self._word.append((text, style))
        column = self._start + length if fits else _cells(self._blanks, self._column) + len(text)
        self._column = (column - 1) % width + 1
        self._blanks, self._is_broken = [], not fits


def _cells(parts: list[tuple[str, Style]], column: int) -> int:
    """The column behind them, when they begin at `column`."""
    for text, _ in parts:
        for number, run in enumerate(text.split("\t")):
            column += (_TAB - column % _TAB if number else 0) + cell_len(run)
    return column
