"""What an installation needs of its machine: memory of a PostgreSQL server, and how fast its disk fills."""

import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from psycopg2.extensions import connection as Connection

from benchmarks.race_morning.cpu import children

_PSS = re.compile(r"^Pss:\s+(\d+) kB$", re.MULTILINE)


def pss_mb(pid: int) -> float:
    """Return the memory of a process and its children in MB, with shared pages counted once (Linux)."""
    kilobytes = 0
    for one in (pid, *children(pid)):
        try:
            found = _PSS.search(Path(f"/proc/{one}/smaps_rollup").read_text())
        except OSError:
            continue  # It has ended since it was listed.
        kilobytes += int(found[1]) if found else 0
    return round(kilobytes * 1024 / 1e6, 1)


@contextmanager
def disk_growth(conn: Connection) -> Iterator[dict[str, Any]]:
    """Measure the growth of the database and of its write-ahead log over a block, in MB per hour.

    The dictionary is filled when the block ends. A checkpoint on either side writes out what is still in memory.
    """
    growth: dict[str, Any] = {}
    before, began = _sizes(conn), time.monotonic()
    yield growth
    after, hours = _sizes(conn), (time.monotonic() - began) / 3600
    growth |= {
        "hours": round(hours, 3),
        "database_mb": round(after["database"] / 1e6, 1),
        "database_mb_per_hour": round((after["database"] - before["database"]) / 1e6 / hours, 1),
        "wal_mb_per_hour": round((after["wal"] - before["wal"]) / 1e6 / hours, 1),
        "largest_tables_mb_per_hour": _fastest(before["tables"], after["tables"], hours),
    }


def _sizes(conn: Connection) -> dict[str, Any]:
    with conn.cursor() as cur:
        cur.execute("CHECKPOINT")
        cur.execute("SELECT pg_database_size(current_database()), pg_wal_lsn_diff(pg_current_wal_insert_lsn(), '0/0')")
        row = cur.fetchone()
        assert row
        cur.execute("SELECT oid::regclass::text, pg_total_relation_size(oid) FROM pg_class WHERE relkind = 'r'")
        return {"database": int(row[0]), "wal": int(row[1]), "tables": dict(cur.fetchall())}


def _fastest(before: dict[str, int], after: dict[str, int], hours: float) -> dict[str, float]:
    """Return the five tables that grew fastest."""
    grown = {name: (size - before.get(name, 0)) / 1e6 / hours for name, size in after.items()}
    return {name: round(rate, 2) for name, rate in sorted(grown.items(), key=lambda item: -item[1])[:5] if rate > 0}
