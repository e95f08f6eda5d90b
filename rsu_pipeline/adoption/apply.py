"""Apply a plan: one transaction, under the lock that migrations take, verified before the commit."""

import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from textwrap import shorten

import psycopg2
from psycopg2.extensions import connection as Connection
from psycopg2.extensions import cursor as Cursor

from rsu_pipeline.adoption.facts import ADOPTED, Facts, count
from rsu_pipeline.adoption.plan import find_lacking, plan_adoption
from rsu_pipeline.adoption.refusals import adopted_tables, refuse_rights, refuse_shape
from rsu_pipeline.adoption.shape import Shape, ident, inspect
from rsu_pipeline.adoption.steps import AdoptionRefusedError, Step
from rsu_pipeline.adoption.undo import Undo, load_record
from rsu_pipeline.display import counted
from rsu_pipeline.warehouse import addresses, database, waiting
from rsu_pipeline.warehouse.secret_box import SecretBox

MIGRATED = "rsu_adoption"
"""The schema in which the migrations run, to show what they create. It is dropped at the end."""
DRY_RUN_LOCK_SECONDS = 5
"""How long a dry run waits for the tables."""
_SHORT_LOCK_TIMEOUT = """
SELECT set_config('lock_timeout', least(nullif(setting::int, 0), %s)::text, true) FROM pg_settings WHERE name = 'lock_timeout'
"""


@dataclass(frozen=True)
class Report:
    """An adoption that was done or rehearsed. Without steps there was nothing to do."""

    steps: tuple[Step, ...]
    facts: Facts
    seconds: float
    locked_seconds: float = 0.0
    """How long nobody else could use the tables."""

    def lines(self) -> list[str]:
        """Return the plan as sentences, table by table."""
        shown = [step for step in self.steps if step.sentence]
        lines: list[str] = []
        for subject in dict.fromkeys(step.subject for step in shown):
            lines += [subject, *(f"  {step.sentence}" for step in shown if step.subject == subject)]
            if subject == "partner_provider_credentials" and self.facts.clear_secrets:
                number = counted(self.facts.clear_secrets, "credential")
                lines.append(f"  {number} in clear, which the program seals at its next read")
        return lines

    def as_json(self) -> dict[str, object]:
        """Return the report for other programs."""
        return {
            "nothing_to_do": not self.steps,
            "steps": [
                {"table": step.subject, "what": step.sentence, "rows": step.rows}
                for step in self.steps
                if step.sentence
            ],
            "rows": self.facts.rows,
            "moved": self.facts.moving,
            "credentials_in_clear": self.facts.clear_secrets,
            "other_credentials_in_clear": [vars(item) for item in self.facts.other_credentials],
            "keys_in_clear_elsewhere": self.facts.keys_elsewhere,
            "seconds": round(self.seconds, 1),
            "locked_seconds": round(self.locked_seconds, 1),
        }


def server_zone(url: str) -> str:
    """Return the default time zone of the server's sessions, in which the older program's `now()` was.

    Raises:
        DatabaseError: The server cannot be reached.
    """
    try:
        conninfo = addresses.parse(url).for_psycopg2("rsu adopt")
        with closing(addresses.open_connection(conninfo)) as conn, conn.cursor() as cur:
            cur.execute("SHOW timezone")
            return str((cur.fetchone() or ("UTC",))[0])
    except psycopg2.Error as error:
        raise database.DatabaseError(database.explain_unreachable(url, error)) from None


def adopt(
    conn: Connection,
    *,
    zone: str,
    dry_run: bool = False,
    on_plan: Callable[[Report], None] = lambda report: None,
    log: Callable[[str], None] = lambda line: None,
) -> Report:
    """Adopt the database.

    All of it is one transaction. Whatever fails, the database is unchanged.

    Args:
        conn: A connection to the database, with no transaction open.
        zone: The server's time zone, as `server_zone` returns it.
        dry_run: Do the same and roll it back, which finds whatever PostgreSQL would refuse.
        on_plan: Called with the plan before anything is done.
        log: Called with a line as each step begins.

    Raises:
        Refused: The database has something that adoption does not know.
        DatabaseError: PostgreSQL refused a statement.
    """
    started = time.monotonic()
    with _whole(conn, dry_run=dry_run), conn.cursor() as cur:
        report = _adopt(conn, cur, zone, on_plan=on_plan, log=log)
    ended = time.monotonic()
    locked_at = report.seconds or ended
    return Report(report.steps, report.facts, ended - started, ended - locked_at)


def undo(
    conn: Connection, secret_box: SecretBox, *, dry_run: bool = False, log: Callable[[str], None] = lambda line: None
) -> list[str]:
    """Give the older program its tables back in one transaction, and return what could not be restored.

    Args:
        conn: A connection to the database, with no transaction open.
        secret_box: Decrypts the credentials.
        dry_run: Do the same and roll it back.
        log: Called with a line as each step begins.

    Raises:
        Refused: Something prevents it. The message names what.
        DatabaseError: PostgreSQL refused a statement.
    """
    with _whole(conn, dry_run=dry_run), conn.cursor() as cur:
        cur.execute("SELECT current_schema()")
        (schema,) = cur.fetchone() or (None,)
        cur.execute("SET LOCAL statement_timeout = 0")
        database.lock_migrations(cur)
        inspect(cur, str(schema))
        load_record(cur)
        wanted = _wanted(conn, cur)
        inspect(cur, str(schema))
        way = Undo(conn, cur, wanted, secret_box, log)
        cur.execute(f"DROP SCHEMA {MIGRATED} CASCADE")
        way.run()
    return way.notes


@contextmanager
def _whole(conn: Connection, *, dry_run: bool) -> Iterator[None]:
    """Commit what the block did. Roll it back in a dry run and after an error."""
    try:
        if dry_run:
            with conn.cursor() as cur:
                # Statements that queue behind this lock request wait as long as it does.
                cur.execute(_SHORT_LOCK_TIMEOUT, (DRY_RUN_LOCK_SECONDS * 1000,))
        yield
        if dry_run:
            conn.rollback()
        else:
            conn.commit()
    except psycopg2.errors.LockNotAvailable as error:
        conn.rollback()
        raise database.DatabaseError(
            f"{waiting.describe_lock_holders(conn, ADOPTED)}, so adoption could not lock the tables and nothing was changed: stop"
            " what uses the database, and run it again."
        ) from error
    except psycopg2.Error as error:
        if conn.closed:
            raise
        conn.rollback()
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise database.DatabaseError(f"The database cannot be adopted, and nothing was changed: {reason}.") from error
    except BaseException:
        conn.rollback()
        raise


def _adopt(
    conn: Connection, cur: Cursor, zone: str, *, on_plan: Callable[[Report], None], log: Callable[[str], None]
) -> Report:
    """Return the plan once it is applied. Its `seconds` are the monotonic time at which the tables were locked."""
    cur.execute("SELECT current_schema()")
    (schema,) = cur.fetchone() or (None,)
    # Rewriting the largest table may take longer than the role's statement_timeout.
    cur.execute("SET LOCAL statement_timeout = 0")
    found = inspect(cur, str(schema))
    if _is_migrated(found):
        return Report((), Facts(), 0.0)
    refuse_rights(found)
    database.lock_migrations(cur)
    wanted = _wanted(conn, cur)
    found = inspect(cur, str(schema))
    if _is_migrated(found):
        return Report((), Facts(), 0.0)
    refuse_shape(found, wanted)
    log("waiting for the tables to be free")
    cur.execute(f"LOCK TABLE {', '.join(map(ident, adopted_tables(found)))} IN ACCESS EXCLUSIVE MODE")
    locked_at = time.monotonic()
    found = inspect(cur, found.schema)
    refuse_shape(found, wanted)
    log("counting rows")
    facts = count(cur, found, wanted)
    steps = plan_adoption(found, wanted, facts, zone)
    report = Report(tuple(steps), facts, locked_at)
    on_plan(report)
    _apply(cur, steps, log)
    cur.execute(f"DROP SCHEMA {MIGRATED} CASCADE")
    log("comparing with a new database")
    if rest := find_lacking(inspect(cur, found.schema), wanted):
        what = f"{rest[0].subject} different from a new database's ({rest[0].sentence or 'comments'})"
        raise AdoptionRefusedError(f"Adoption would leave {what}, so nothing was changed.")
    return report


def _is_migrated(found: Shape) -> bool:
    """Return whether this program's migrations are recorded in a schema.

    Raises:
        Refused: Another program's migrations are recorded there.
    """
    if "schema_migrations" not in found.tables:
        return False
    columns = found.tables["schema_migrations"].columns
    if missing := [name for name in ("version", "name", "digest") if name not in columns]:
        raise AdoptionRefusedError(
            f"Table schema_migrations has no column {missing[0]}, so another program's migrations are recorded there:"
            " rename it, and adopt again."
        )
    return True


def _wanted(conn: Connection, cur: Cursor) -> Shape:
    """Return the schema that the migrations make, run and recorded in a schema of their own."""
    cur.execute(f"CREATE SCHEMA {MIGRATED}; SET LOCAL search_path TO {MIGRATED}")
    database.apply_migrations(conn)
    return inspect(cur, MIGRATED)


def _apply(cur: Cursor, steps: list[Step], log: Callable[[str], None]) -> None:
    # Deferred checks would prevent their tables from being altered.
    cur.execute("SET CONSTRAINTS ALL IMMEDIATE")
    for number, step in enumerate(steps, 1):
        if step.sentence:
            log(shorten(f"[{number}/{len(steps)}] {step.subject}: {step.sentence}", 100, placeholder=" …"))
        for statement in step.sql:
            try:
                cur.execute(statement)
            except psycopg2.errors.LockNotAvailable:
                raise
            except psycopg2.Error as error:
                if cur.connection.closed:
                    raise
                reason = (error.diag.message_primary or type(error).__name__).strip()
                raise AdoptionRefusedError(
                    f"{step.subject} cannot be adopted ({step.sentence or step.phase.name}), and nothing was changed:"
                    f" PostgreSQL answers {reason!r}. Correct what it names, and adopt again."
                ) from error
