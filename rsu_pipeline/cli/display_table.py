"""Tables of the commands, in which the width of a terminal cuts no figure and no name.

A table that is wider than the terminal loses the columns that it can do without. If it is still too wide, its text columns
wrap, and after that each row is printed as lines of its own.
"""

import sys
from collections.abc import Sequence
from dataclasses import dataclass

from rich.cells import cell_len
from rich.console import Console
from rich.padding import Padding
from rich.table import Column, Table
from rich.text import Text

from rsu_pipeline.cli.common import show_line
from rsu_pipeline.display import make_printable

LABEL_GAP = 2
"""Columns between a label and its value where rows are stacked."""
STACK_INDENT = 2


class DisplayTable:
    """A table of text from outside, in which no cell controls the terminal.

    Args:
        columns: names, or rich's columns. A column with `no_wrap` false may wrap at words, down to its longest word, or to its
            `min_width` if it has one, into which a longer word is folded.
        optional: names of the columns that a narrow terminal may leave out, in this order.
        gap: blanks between two columns.
    """

    def __init__(self, *columns: Column | str, optional: Sequence[str] = (), gap: int = 2) -> None:
        """Take the columns. Rows follow by `add_row`."""
        self.columns = [column if isinstance(column, Column) else Column(column, no_wrap=True) for column in columns]
        self.rows: list[tuple[tuple[str, ...], str]] = []
        self.optional = optional
        self.gap = gap

    def add_row(self, *cells: str | None, style: str = "") -> None:
        """Add a row of cells, each on one line and of characters that print."""
        self.rows.append((tuple(make_printable(cell or "") for cell in cells), style))

    def natural_widths(self) -> list[int]:
        """Return the width of each column in which nothing wraps."""
        return [
            max((cell_len(cells[place]) for cells, _ in self.rows), default=0) for place in range(len(self.columns))
        ]

    def least_widths(self) -> list[int]:
        """Return the least width of each column: its natural one, or less where it may wrap."""
        return [
            natural if column.no_wrap else min(natural, column.min_width or self._longest_word(place))
            for place, (column, natural) in enumerate(zip(self.columns, self.natural_widths(), strict=True))
        ]

    def _longest_word(self, place: int) -> int:
        return max((cell_len(word) for cells, _ in self.rows for word in cells[place].split()), default=0)

    def fit(self, width: int | None) -> "Fitted":
        """Decide how the table is printed on a terminal of this width, None for any width."""
        headers = [cell_len(str(column.header)) for column in self.columns]
        natural = [max(pair) for pair in zip(headers, self.natural_widths(), strict=True)]
        least = [max(pair) for pair in zip(headers, self.least_widths(), strict=True)]
        names = [str(column.header) for column in self.columns]
        droppable = [names.index(name) for name in self.optional]
        for widths in (natural, least):
            for count in range(len(droppable) + 1):
                shown = [place for place in range(len(names)) if place not in droppable[:count]]
                dropped = [names[place] for place in sorted(droppable[:count])]
                room = sum(natural) if width is None else width - self.gap * (len(shown) - 1)
                if sum(widths[place] for place in shown) <= room:
                    return Fitted(_share(natural, widths, shown, room), dropped)
        return Fitted(None, [])


@dataclass(frozen=True)
class Fitted:
    """The width of each column that is shown, None if rows are stacked, and the names of those that are not shown."""

    widths: dict[int, int] | None
    dropped: list[str]


def _share(natural: Sequence[int], least: Sequence[int], shown: Sequence[int], room: int) -> dict[int, int]:
    """Return widths between least and natural that fill the room, the first columns first."""
    widths, left = {}, room - sum(least[place] for place in shown)
    for place in shown:
        more = min(natural[place] - least[place], left)
        widths[place], left = least[place] + more, left - more
    return widths


def measure_terminal() -> int | None:
    """Return the columns of the terminal, None if there is none."""
    return Console().width if sys.stdout.isatty() else None


def show_table(table: DisplayTable, everything: str = "") -> None:
    """Print a table. Names in it are text, never markup.

    Args:
        table: the table.
        everything: how to see the columns that a narrow terminal leaves out, such as "`--json` has them".
    """
    width = measure_terminal()
    renderables, dropped = render(table, width)
    console = Console(markup=False, emoji=False, highlight=False, width=width or 100_000)
    for renderable in renderables:
        console.print(renderable)
    if dropped:
        show_line(f"Not shown in {width} columns: {', '.join(dropped)}{f' ({everything})' if everything else ''}.")


def render(table: DisplayTable, width: int | None) -> tuple[list[Table | Padding | Text], list[str]]:
    """Return what to print on a terminal of this width, and the names of the columns that are left out."""
    fitted = table.fit(width)
    if fitted.widths is None:
        return [part for cells, style in table.rows for part in _stack(table, cells, style, width)], []
    shown = Table(box=None, padding=(0, table.gap, 0, 0), pad_edge=False)
    for place, of_column in fitted.widths.items():
        column = table.columns[place]
        shown.add_column(column.header, justify=column.justify, width=of_column, overflow="fold")
    for cells, style in table.rows:
        shown.add_row(*(Text(cells[place]) for place in fitted.widths), style=style)
    return [shown], fitted.dropped


def _stack(table: DisplayTable, cells: Sequence[str], style: str, width: int | None) -> list[Padding | Text]:
    """Return a row as lines: its first cell, and below it the others that are not empty, each with its column's name.

    A word that does not fit beside the name gets the line below it.
    """
    names = [str(column.header) for column in table.columns]
    indent = max(map(cell_len, names[1:]), default=0) + LABEL_GAP
    lines: list[Padding | Text] = [Text(cells[0], style=style)]
    for name, cell in zip(names[1:], cells[1:], strict=True):
        if cell:
            longest = max(map(cell_len, cell.split()), default=0)
            fits = width is None or STACK_INDENT + indent + longest <= width
            grid = Table.grid(padding=0)
            grid.add_column(width=indent if fits else None, overflow="fold")
            grid.add_column(overflow="fold")
            grid.add_row(Text(name), Text(cell) if fits else None)
            if not fits:
                grid.add_row(Text(cell))
            lines.append(Padding(grid, (0, 0, 0, STACK_INDENT), style=style))
    return lines
