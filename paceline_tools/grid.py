"""Figures for a terminal of any width: a table where it fits, else each row in lines of its own."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from rich.console import Console, ConsoleOptions, RenderResult
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from paceline_tools.terminal import plain

Cell = str | Text
_ANY_WIDTH = 10_000
_GAP = "   "


@dataclass(frozen=True, slots=True)
class Grid:
    """A table whose words are never cut.

    words: so many leading columns are words, and the others numbers. By the first word a row is
    known; where it is empty that is the one before. note: what the figures are.
    """

    title: str
    headings: Sequence[str]
    rows: Sequence[Sequence[Cell]]
    note: str = ""
    words: int = 1

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """As a table, if it fits."""
        table = self._table()
        wide = options.update(max_width=_ANY_WIDTH)
        yield Text(self.title, style="bold")
        if console.measure(table, options=wide).maximum <= options.max_width:
            yield table
        else:
            yield from self._stacked(options.max_width)
        if self.note:
            yield plain(self.note, "dim")

    def _table(self) -> Table:
        table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
        for index, heading in enumerate(self.headings):
            is_word = index < self.words
            table.add_column(plain(heading), justify="left" if is_word else "right", no_wrap=True)
        for row in self.rows:
            table.add_row(*map(_shown, row))
        return table

    def _stacked(self, width: int) -> Iterator[Text | Padding]:
        """Each row under its name, as many headings with their values in a line as go there."""
        name: Cell = ""
        named = min(1, self.words)
        for row in self.rows:
            if named:
                name = row[0] or name
                yield Text("", style="bold").append_text(_shown(name))
            pairs = zip(self.headings[named:], row[named:], strict=True)
            pieces = [_piece(heading, value) for heading, value in pairs if value]
            yield Padding(_filled(pieces, width - 2), (0, 0, 0, 2))


def _shown(cell: Cell) -> Text:
    return plain(cell) if isinstance(cell, str) else cell


def _piece(heading: str, value: Cell) -> Text:
    """A value behind its heading, in one line."""
    return Text.assemble((heading, "dim"), " ", Text(" ").join(_shown(value).split("\n")))


def _filled(pieces: Sequence[Text], width: int) -> Text:
    """Pieces in lines; one begins a new line where it would not fit the one before."""
    lines: list[Text] = []
    for piece in pieces:
        if lines and lines[-1].cell_len + len(_GAP) + piece.cell_len <= width:
            lines[-1] = Text.assemble(lines[-1], _GAP, piece)
        else:
            lines.append(piece)
    return Text("\n").join(lines)
