"""What a plan is made of."""

from dataclasses import dataclass
from enum import IntEnum

from rsu_pipeline.warehouse.database import DatabaseError


class AdoptionRefusedError(DatabaseError):
    """The database is not understood well enough to adopt it; one sentence: which table and column, and what to do."""


class Phase(IntEnum):
    """The order of the work. Keys go before rows move, so that nothing cascades; views go before their columns change."""

    VIEWS_DOWN = 1
    KEYS_DOWN = 2
    COLUMNS = 3
    KEYS_OUT = 4
    MOVING = 5
    FILLING = 6
    NEW_TABLES = 7
    ROWS = 8
    KEYS = 9
    INDEXES = 10
    FOREIGN_KEYS = 11
    TRIGGERS = 12
    VIEWS = 13
    LAST = 14


@dataclass(frozen=True)
class Step:
    """One thing adoption does. `subject` is the table or view, `sentence` what happens to it, in plain words; `rows` how
    many rows that concerns, where rows are concerned at all."""

    subject: str
    phase: Phase
    sentence: str
    sql: tuple[str, ...]
    rows: int | None = None


def listing(names: list[str]) -> str:
    """`a`, `a and b`, `a, b and c`."""
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)


def counted(number: int, one: str, many: str = "") -> str:
    """`1 row`, `1,203 rows`."""
    return f"{number:,} {one if number == 1 else many or one + 's'}"
