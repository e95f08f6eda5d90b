"""Tables on terminals of any width: no cell is cut, and what is left out is named."""

import io

import pytest
from rich.console import Console
from rich.table import Column

from rsu_pipeline.cli.display_table import DisplayTable, render

ROWS = (
    ("1-acme-timing", "The Extraordinarily Long Half Marathon of the Lake", "12,345", "Springfield"),
    ("2-birch", "Ten", "7", "Bø"),
)


def shown(table: DisplayTable, width: int | None) -> tuple[list[str], list[str]]:
    """Return the lines of a table, and the columns it leaves out."""
    renderables, dropped = render(table, width)
    console = Console(file=io.StringIO(), width=width or 1000, markup=False, highlight=False)
    for one in renderables:
        console.print(one)
    assert isinstance(console.file, io.StringIO)
    return [line.rstrip() for line in console.file.getvalue().splitlines()], dropped


@pytest.fixture
def table() -> DisplayTable:
    made = DisplayTable(
        "partner", Column("race"), Column("rows", justify="right", no_wrap=True), "city", optional=["city"]
    )
    for row in ROWS:
        made.add_row(*row)
    return made


@pytest.mark.parametrize("width", [None, 200, 80, 60, 45, 40, 24, 13])
def test_no_word_is_cut_at_any_width(table: DisplayTable, width: int | None) -> None:
    lines, dropped = shown(table, width)
    text = "\n".join(lines)
    assert all(len(line) <= (width or 1000) for line in lines), lines
    for cells in ROWS:
        for name, cell in zip(("partner", "race", "rows", "city"), cells, strict=True):
            if name not in dropped and (width or 99) >= 24:
                assert all(word in text for word in cell.split()), (cell, lines)


def test_columns_are_left_out_before_text_wraps_and_rows_are_stacked_last(table: DisplayTable) -> None:
    assert shown(table, 100)[1] == []
    lines, dropped = shown(table, 74)
    assert (dropped, len(lines)) == (["city"], 3)
    lines, dropped = shown(table, 45)
    assert dropped == ["city"] and len(lines) > 3
    lines, dropped = shown(table, 30)
    assert dropped == [] and lines[0] == "1-acme-timing" and "Springfield" in lines[-5:][0] + "".join(lines)


def test_an_empty_table_has_its_heads() -> None:
    assert shown(DisplayTable("a", "b"), 80)[0] == ["a  b"]


def test_no_cell_controls_the_terminal() -> None:
    table = DisplayTable("a")
    table.add_row("x\x1b[31m[red]y\nz")
    assert shown(table, 80)[0] == ["a", "x\ufffd[31m[red]y z"]
