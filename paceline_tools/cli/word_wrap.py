"""Text that comes in pieces, broken between words where a line ends. Pure."""

import re
from collections.abc import Iterator
from typing import Generic, TypeVar

from rich.cells import cell_len

Style = TypeVar("Style")
_PIECES = re.compile(r"\n|[ \t]+|[^ \t\n]+")
_TAB = 8


class WordWrap(Generic[Style]):
    """A word is held back until it ends, as only then is it known whether the line has room."""

    def __init__(self) -> None:
        """At the beginning of a line."""
        self._column = 0
        self._blanks: list[tuple[str, Style]] = []
        self._word: list[tuple[str, Style]] = []
        self._is_broken = False

    def add(self, text: str, style: Style, width: int) -> Iterator[tuple[str, Style]]:
        """What can be shown now. width: of a line, in cells."""
        for piece in _PIECES.findall(text):
            if piece == "\n":
                yield from self.end(width)
                yield piece, style
                self._column = 0
            elif piece.isspace():
                yield from self._end_word(width)
                self._blanks.append((piece, style))
            elif cell_len(piece) == len(piece):
                yield from self._grow(piece, style, width)
            else:  # between wide characters a line may break, as in Chinese
                for character in piece:
                    if cell_len(character) > 1:
                        yield from self._end_word(width)
                    yield from self._grow(character, style, width)

    def end(self, width: int) -> Iterator[tuple[str, Style]]:
        """The word that is held back; blanks that nothing follows are never shown."""
        yield from self._end_word(width)
        self._blanks = []

    def _end_word(self, width: int) -> Iterator[tuple[str, Style]]:
        if self._word:
            yield from self._placed(width)
        self._is_broken = False

    def _grow(self, text: str, style: Style, width: int) -> Iterator[tuple[str, Style]]:
        self._word.append((text, style))
        if self._is_broken or _cells(self._word, 0) > width:  # the terminal breaks it
            yield from self._placed(width)
            self._is_broken = True

    def _placed(self, width: int) -> Iterator[tuple[str, Style]]:
        """Blanks and word, on a new line where this one has no room."""
        blanks, word = self._blanks, self._word
        self._blanks, self._word = [], []
        length, end = _cells(word, 0), _cells(blanks, self._column)
        if not self._is_broken and self._column and end + length > width >= length:
            yield "\n", word[0][1]
            blanks, end = [], 0
        yield from blanks
        yield from word
        self._column = (end + length - 1) % width + 1


def _cells(parts: list[tuple[str, Style]], column: int) -> int:
    """The column behind them, when they begin at `column`."""
    for text, _ in parts:
        for number, run in enumerate(text.split("\t")):
            column += (_TAB - column % _TAB if number else 0) + cell_len(run)
    return column
