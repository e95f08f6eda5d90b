"""The parts of a plan."""

from dataclasses import dataclass
from enum import IntEnum

from rsu_pipeline.warehouse.database import DatabaseError


class AdoptionRefusedError(DatabaseError):
    """A database that adoption does not know well enough. One sentence names the table, the column and what to do."""


class Phase(IntEnum):
    """The order of the work.

    Keys are dropped before rows move, so that nothing cascades. Views are dropped before their columns change.
    """

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
    """One thing that adoption does. `sentence` describes it in plain words.

    Attributes:
        subject: The table or view.
        rows: How many rows it concerns, or None if it is not about rows.
    """

    subject: str
    phase: Phase
    sentence: str
    sql: tuple[str, ...]
    rows: int | None = None


def listing(names: list[str]) -> str:
    """Join names as `a`, `a and b` or `a, b and c`."""
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)
