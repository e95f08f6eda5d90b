"""Which migrations a database has, and whether they are the ones this program needs.

Nothing here changes a database. `database.migrate` does, for the commands whose job it is: `rsu db migrate`, `rsu up`,
`rsu demo`, `rsu db import` and `rsu db adopt`. Everything else refuses a database of another version.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass

import psycopg2.errors
from psycopg2.extensions import connection as Connection

from rsu_pipeline.warehouse import database


class SchemaVersionError(database.DatabaseError):
    """The database's schema is not this program's. The message names the versions and the command to run."""


@dataclass(frozen=True)
class SchemaVersion:
    """What a database records about its schema."""

    applied: Mapping[int, str] | None
    """Digest of each applied migration by number, None if the table schema_migrations is absent."""
    has_tables: bool
    """Whether there is any table outside Dagster's schema."""
    has_registrations: bool
    """Whether a table runsignup_participants exists."""

    @property
    def is_empty(self) -> bool:
        """Whether the database has no table yet, Dagster's aside."""
        return self.applied is None and not self.has_tables

    @property
    def number(self) -> int:
        """The newest applied migration, 0 if there is none."""
        return max(self.applied or {}, default=0)


def read_version(conn: Connection) -> SchemaVersion:
    """Read what the database records about its schema.

    Raises:
        DatabaseError: the session's role may not read it.
    """
    applied = None
    try:
        with conn.cursor() as cur:
            cur.execute(
                "SELECT to_regclass('schema_migrations') IS NOT NULL, to_regclass('runsignup_participants') IS NOT NULL,"
                " EXISTS (SELECT FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.relkind IN ('r', 'p')"
                " AND n.nspname NOT LIKE 'pg\\_%' AND n.nspname NOT IN ('information_schema', 'dagster'))"
            )
            is_ours, has_registrations, has_tables = cur.fetchone() or (False, False, False)
            if is_ours:
                cur.execute("SELECT version, digest FROM schema_migrations")
                applied = {int(number): str(digest) for number, digest in cur.fetchall()}
    except psycopg2.errors.InsufficientPrivilege as error:
        raise database.DatabaseError(
            f"The schema's version cannot be read ({(error.diag.message_primary or '').strip()}): grant this user a role of"
            " `rsu db roles`."
        ) from None
    return SchemaVersion(applied, bool(has_tables), bool(has_registrations))


def find_gap(found: SchemaVersion) -> str | None:
    """Return how a schema differs from this program's and the next step, or None if it does not.

    The text follows "The database at …".
    """
    known = {
        number: (name, hashlib.sha256(sql.encode()).hexdigest()) for number, name, sql in database.list_migrations()
    }
    return describe_gap(found, known)


def describe_gap(found: SchemaVersion, known: Mapping[int, tuple[str, str]]) -> str | None:
    """Do the work of `find_gap` for known migrations: name and digest by number."""
    needed = max(known)
    if found.applied is None:
        if found.has_registrations:
            return "was made by another program: take it over with `rsu db adopt` (`--dry-run` shows what that does)."
        if found.has_tables:
            return (
                "has tables, but none of this program's: check that RSU_DATABASE_URL names the right database, then run"
                " `rsu db migrate`."
            )
        return "is empty: run `rsu db migrate`, or `rsu up`, which does it too."
    if found.applied.keys() - known.keys():
        return (
            f"is at version {found.number}, newer than this program, which knows {needed}: install the newer program, or"
            " restore a backup made before the upgrade."
        )
    for number, digest in found.applied.items():
        name, expected = known[number]
        if digest != expected:
            return f"has another form of migration {name} than this program: install the program that made it."
    if found.number < needed:
        return f"is at version {found.number}, this program needs {needed}: run `rsu db migrate`."
    missing = [name for number, (name, _) in known.items() if number not in found.applied]
    return f"lacks {', '.join(missing)}: run `rsu db migrate`." if missing else None


def require_current(conn: Connection, url: str) -> None:
    """Check that the database's schema is this program's.

    Raises:
        SchemaVersionError: it is not.
    """
    if gap := find_gap(read_version(conn)):
        raise SchemaVersionError(f"The database at {database.describe_server(url)} {gap}")
