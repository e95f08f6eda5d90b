"""Database roles with no more rights than their work needs: group roles, to be granted to those who log in.

- owner: owns the hub's tables and views, and runs migrations.
- writer: the pipeline. Reads and writes rows of the hub's tables, creates and alters none. It may only add to the bib log and
  the privacy log. Dagster's tables are its own: Dagster creates and alters them when it starts, in a schema of their own.
- reader: everything without contact data: start lists, the bib log, the views reader_*.
- start_lists: start lists alone.

The writer can use what a later migration creates at once, by default privileges, and nobody else can: a table for readers is
named here.
"""

import re
from dataclasses import dataclass

from psycopg2.extensions import connection as Connection

from rsu_pipeline.display import MAX_NAME_CHARS, sanitize_for_display
from rsu_pipeline.errors import RsuError
from rsu_pipeline.warehouse import database

KINDS = ("owner", "writer", "reader", "start_lists")
"""The roles of a hub, by what follows the prefix in their names."""
MAX_PREFIX_CHARS = 40
DAGSTER = "dagster"
"""The schema of Dagster's tables, as in orchestration.storage."""
ADD_ONLY = ("runsignup_bib_changes", "privacy_log")
READ_ONLY = ("schema_migrations",)
START_LISTS = ("start_lists", "start_list_entries", "start_list")
FOR_READERS = (
    *START_LISTS,
    *("reader_partners", "reader_races", "reader_events", "reader_participants", "unified_events"),
    *("partner_races", "future_events", "event_cursors", "history_events", "runsignup_bib_changes", "alerts"),
)
_MADE = re.compile(r"^CREATE (TABLE|VIEW|FUNCTION) (\w+)", re.MULTILINE)


class RolesError(RsuError):
    """The roles cannot be created so. The text is one sentence: what is wrong, and the next step."""


@dataclass(frozen=True)
class Step:
    """A step, in words and as SQL."""

    sentence: str
    sql: str


def build_role_names(prefix: str) -> dict[str, str]:
    """Return the roles' names by kind.

    Raises:
        RolesError: the prefix cannot be used.
    """
    if not re.fullmatch(rf"(?!pg_)[a-z_][a-z0-9_]{{0,{MAX_PREFIX_CHARS - 1}}}", prefix):
        shown = sanitize_for_display(prefix, MAX_NAME_CHARS)
        raise RolesError(
            f"The roles' prefix is {shown!r}, but must be up to {MAX_PREFIX_CHARS} small letters, digits and underscores, and"
            " begin with a letter other than pg_: give one with --prefix."
        )
    return {kind: f"{prefix}_{kind}" for kind in KINDS}


def grant_roles(conn: Connection, prefix: str, *, dry_run: bool = False) -> list[Step]:
    """Create the roles and give each its rights, all in one transaction. Return what was done, or would be.

    It is safe to repeat: existing rights are granted again, and rights of the roles beyond them are revoked.

    Raises:
        RolesError: the present role is one of them.
        psycopg2.Error: the server refuses, for example to a role that may not create roles.
    """
    steps = _steps(conn, build_role_names(prefix))
    with conn.cursor() as cur:
        for step in steps:
            cur.execute(step.sql)
    # A dry run does everything, so that it finds what would be refused.
    if dry_run:
        conn.rollback()
    else:
        conn.commit()
    return steps


def _steps(conn: Connection, roles: dict[str, str]) -> list[Step]:
    steps, schema = _role_steps(conn, roles)
    return [*steps, *_right_steps(conn, roles, schema), *_dagster_steps(conn, roles)]


def _role_steps(conn: Connection, roles: dict[str, str]) -> tuple[list[Step], str]:
    """Return the steps that make the roles and let them into the database, and the name of its schema."""
    owner, writer, _, _ = (roles[kind] for kind in KINDS)
    with conn.cursor() as cur:
        cur.execute(
            "SELECT current_database(), current_schema(), current_user, rolsuper,"
            " ARRAY(SELECT rolname::text FROM pg_roles WHERE rolname = ANY (%s))"
            " FROM pg_roles WHERE rolname = current_user",
            (list(roles.values()),),
        )
        found = cur.fetchone()
    if found is None:
        raise RolesError("The database does not know the present role.")
    catalog, schema, user, is_super, present = found
    if user in roles.values():
        raise RolesError(f"{user} cannot change its own rights: run this as the administrator who made the database.")
    steps = [Step(f"role {name} made", f"CREATE ROLE {name} NOLOGIN") for name in roles.values() if name not in present]
    if not is_super:
        # Only a member may change the owner of a table.
        steps.append(Step(f"{user} a member of both owners", f"GRANT {owner}, {writer} TO {_quoted(user)}"))
    everyone = ", ".join(roles.values())
    steps += [
        Step(f"nobody else makes tables in schema {schema}", f"REVOKE CREATE ON SCHEMA {_quoted(schema)} FROM PUBLIC"),
        Step("all may connect", f"GRANT CONNECT ON DATABASE {_quoted(catalog)} TO {everyone}"),
        Step(f"all may use schema {schema}", f"GRANT USAGE ON SCHEMA {_quoted(schema)} TO {everyone}"),
        Step(f"{owner} makes tables", f"GRANT CREATE ON SCHEMA {_quoted(schema)} TO {owner}"),
        # The page that is being read is in a temporary table.
        Step(f"{writer} makes temporary tables", f"GRANT TEMPORARY ON DATABASE {_quoted(catalog)} TO {writer}"),
    ]
    return steps, schema


def _right_steps(conn: Connection, roles: dict[str, str], schema: str) -> list[Step]:
    """Return the steps that give each role its rights to the hub's tables."""
    owner, writer, reader, start_lists = (roles[kind] for kind in KINDS)
    steps = []
    ours = hub_relations(conn)
    handed = [f"ALTER {kind} {name} OWNER TO {owner}" for kind, name in ours if not _belongs(conn, kind, name, owner)]
    tables = [name for kind, name in ours if kind == "TABLE"]
    relations = [name for kind, name in ours if kind in ("TABLE", "VIEW")]
    if handed:
        # Only tables of another owner: each needs an exclusive lock for a moment.
        steps.append(Step(f"{len(handed)} tables, views and functions handed to {owner}", ";".join(handed)))
    return [
        *steps,
        Step(
            "rights of an earlier time taken back",
            ";".join(f"REVOKE ALL ON {name} FROM {writer}, {reader}, {start_lists}" for name in relations),
        ),
        Step(
            f"{writer} reads and writes rows",
            f"GRANT SELECT, INSERT, UPDATE, DELETE ON {', '.join(tables)} TO {writer}",
        ),
        Step(
            f"{writer} only adds to {', '.join(ADD_ONLY)}",
            f"REVOKE UPDATE, DELETE ON {', '.join(ADD_ONLY)} FROM {writer}",
        ),
        Step(
            f"{writer} only reads {', '.join(READ_ONLY)}",
            f"REVOKE INSERT, UPDATE, DELETE ON {', '.join(READ_ONLY)} FROM {writer}",
        ),
        Step(
            f"{writer} reads views",
            f"GRANT SELECT ON {', '.join(name for name in relations if name not in tables)} TO {writer}",
        ),
        Step(
            f"{reader} reads {len(FOR_READERS)} tables and views",
            f"GRANT SELECT ON {', '.join(FOR_READERS)} TO {reader}",
        ),
        Step(f"{start_lists} reads start lists", f"GRANT SELECT ON {', '.join(START_LISTS)} TO {start_lists}"),
        Step(f"{writer} numbers rows", _sequences(conn, tables, writer)),
        Step(
            f"{writer} may use what later migrations make",
            f"ALTER DEFAULT PRIVILEGES FOR ROLE {owner} IN SCHEMA {_quoted(schema)}"
            f" GRANT SELECT, INSERT, UPDATE, DELETE ON TABLES TO {writer};"
            f"ALTER DEFAULT PRIVILEGES FOR ROLE {owner} IN SCHEMA {_quoted(schema)}"
            f" GRANT USAGE, SELECT ON SEQUENCES TO {writer}",
        ),
    ]


def _dagster_steps(conn: Connection, roles: dict[str, str]) -> list[Step]:
    """Return the steps that give Dagster's schema to the role that Dagster runs as."""
    writer = roles["writer"]
    with conn.cursor() as cur:
        cur.execute("SELECT to_regnamespace(%s) IS NOT NULL", (DAGSTER,))
        (has_dagster,) = cur.fetchone() or (False,)
    steps = []
    if not has_dagster:
        steps.append(Step(f"schema {DAGSTER} made", f"CREATE SCHEMA {DAGSTER}"))
    dagsters = [f"ALTER TABLE {name} OWNER TO {writer}" for name in _dagsters(conn, writer)]
    dagsters.append(f"ALTER SCHEMA {DAGSTER} OWNER TO {writer}")
    steps.append(Step(f"{writer} owns schema {DAGSTER} and its tables", ";".join(dagsters)))
    return steps


def hub_relations(conn: Connection) -> list[tuple[str, str]]:
    """Return kind and name of everything that the migrations created, and nothing that other programs have in the schema."""
    made = [("TABLE", "schema_migrations")]
    for _, _, sql in database.list_migrations():
        made += _MADE.findall(sql)
    with conn.cursor() as cur:
        for name in ("adopted_rows", "adoption_record"):
            cur.execute("SELECT to_regclass(%s) IS NOT NULL", (name,))
            if (cur.fetchone() or (False,))[0]:
                made.append(("TABLE", name))
    return made


def _sequences(conn: Connection, tables: list[str], writer: str) -> str:
    with conn.cursor() as cur:
        cur.execute(
            "SELECT DISTINCT d.objid::regclass::text FROM pg_depend d JOIN pg_class s ON s.oid = d.objid AND s.relkind = 'S'"
            " WHERE d.classid = 'pg_class'::regclass AND d.refclassid = 'pg_class'::regclass AND d.deptype IN ('a', 'i')"
            " AND d.refobjid = ANY (SELECT to_regclass(name) FROM unnest(%s) name) ORDER BY 1",
            (tables,),
        )
        found = [str(row[0]) for row in cur.fetchall()]
    return f"GRANT USAGE, SELECT ON SEQUENCE {', '.join(found)} TO {writer}"


def _belongs(conn: Connection, kind: str, name: str, owner: str) -> bool:
    """Return whether a table or view already belongs to the owner."""
    with conn.cursor() as cur:
        cur.execute("SELECT relowner::regrole::text = %s FROM pg_class WHERE oid = to_regclass(%s)", (owner, name))
        (its,) = cur.fetchone() or (False,)
    return kind != "FUNCTION" and bool(its)


def _dagsters(conn: Connection, writer: str) -> list[str]:
    """Return Dagster's tables that do not belong to the writer yet. Their sequences go with them."""
    with conn.cursor() as cur:
        cur.execute(
            "SELECT oid::regclass::text FROM pg_class WHERE relnamespace = to_regnamespace(%s) AND relkind IN ('r', 'p')"
            " AND relowner::regrole::text <> %s ORDER BY 1",
            (DAGSTER, writer),
        )
        return [str(row[0]) for row in cur.fetchall()]


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'
