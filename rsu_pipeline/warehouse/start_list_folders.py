"""The state of the folders that files of start lists are kept in, which the alert rules read. Callers commit.

Only the process that writes a folder sees whether it can be written, and it may be on another machine than the sensor `alerts`.
"""

import datetime as dt
from dataclasses import dataclass

from psycopg2.extensions import connection as Connection


@dataclass(frozen=True)
class KeptFolder:
    """A folder, and the process that keeps it. All times are by the database's clock."""

    folder: str
    machine: str
    seconds_silent: float
    failing_since: dt.datetime | None
    failing_for: dt.timedelta | None
    last_error: str | None

    @property
    def host(self) -> str:
        return self.machine.rsplit(":", 1)[0]


def take_over(conn: Connection, folder: str) -> None:
    """Forget who kept a folder of this path, because a process begins to keep it.

    It may be the same folder after a restart, in a container with another host name. A process of another machine that
    keeps a folder of the same path records itself again within seconds.
    """
    with conn.cursor() as cur:
        cur.execute("DELETE FROM start_list_folders WHERE folder = %s", (folder,))


def record(conn: Connection, folder: str, machine: str, error: str | None) -> None:
    """Record that a process has compared a folder's files with the lists, and what kept it from writing one."""
    with conn.cursor() as cur:
        cur.execute(
            "INSERT INTO start_list_folders AS f (folder, machine, kept_at, failing_since, last_error)"
            " VALUES (%(folder)s, %(machine)s, clock_timestamp(), CASE WHEN %(error)s IS NOT NULL THEN clock_timestamp() END,"
            " %(error)s) ON CONFLICT (folder, machine) DO UPDATE SET kept_at = excluded.kept_at,"
            " failing_since = CASE WHEN excluded.last_error IS NOT NULL THEN coalesce(f.failing_since, excluded.failing_since) END,"
            " last_error = excluded.last_error",
            {"folder": folder, "machine": machine, "error": error},
        )


def forget(conn: Connection, folder: str, machine: str) -> None:
    """Forget that this process keeps a folder. Another may keep one of the same path."""
    with conn.cursor() as cur:
        cur.execute("DELETE FROM start_list_folders WHERE folder = %s AND machine = %s", (folder, machine))


def read_folders(conn: Connection) -> list[KeptFolder]:
    """Return the folders that processes keep, or kept until they ended without notice."""
    with conn.cursor() as cur:
        cur.execute(
            "SELECT folder, machine, extract(epoch FROM clock_timestamp() - kept_at)::float, failing_since,"
            " clock_timestamp() - failing_since, last_error FROM start_list_folders ORDER BY folder, machine"
        )
        return [KeptFolder(*row) for row in cur.fetchall()]
