"""What a plan is made of."""

from dataclasses import dataclass
from enum import IntEnum

from rsu_pipeline.warehouse.database import DatabaseError


class Refused(DatabaseError):
    """The database is not understood well enough to adopt it; one sentence: which table and column, and what to do."""


class Phase(IntEnum):
    """The order of the work. Keys go before rows move, so that nothing cascades; views go before their columns change."""

    VIEWS_DOWN = 1
    KEYS_DOWN = 2
    COLUMNS = 3
    MOVING = 4
    FILLING = 5
    NEW_TABLES = 6
    ROWS = 7
    KEYS = 8
    INDEXES = 9
    FOREIGN_KEYS = 10
    TRIGGERS = 11
    VIEWS = 12
    LAST = 13


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
