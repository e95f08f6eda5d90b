"""Taking a role's right to write to the hub's tables away: the role of the program that was replaced, for one."""

from psycopg2.extensions import connection as Connection

from rsu_pipeline.warehouse.roles import RolesError, hub_relations

WRITING = ("INSERT", "UPDATE", "DELETE", "TRUNCATE")
READABLE = (
    *("runsignup_races", "runsignup_events", "runsignup_participants", "sync_history", "timing_partners", "providers"),
    *("unified_events", "unified_participants"),
)
"""What the role may read afterwards; credentials are not among it."""

_REACHED_BY = f"""
SELECT c.relname::text, CASE WHEN u.rolsuper THEN 'a superuser' ELSE 'owner or member of ' || quote_ident(r.rolname) END
FROM pg_class c CROSS JOIN pg_roles u JOIN pg_roles r ON r.oid = c.relowner OR EXISTS (
    SELECT FROM aclexplode(c.relacl) a WHERE a.grantee = r.oid AND a.privilege_type = ANY (ARRAY{list(WRITING)}))
WHERE u.rolname = %(role)s AND c.oid = ANY (SELECT to_regclass(name) FROM unnest(%(tables)s) name)
    AND (u.rolsuper OR pg_has_role(u.oid, r.oid, 'USAGE'))
ORDER BY 1, r.oid = c.relowner DESC LIMIT 1
"""


def list_writers(conn: Connection) -> list[str]:
    """Return the roles that were granted to write to the hub's data, PUBLIC among them. Owners need no grant."""
    with conn.cursor() as cur:
        cur.execute(
            "SELECT DISTINCT CASE WHEN a.grantee = 0 THEN 'PUBLIC' ELSE pg_get_userbyid(a.grantee)::text END"
            " FROM pg_class c CROSS JOIN LATERAL aclexplode(c.relacl) a WHERE c.relkind = 'r' AND a.grantee <> c.relowner"
            " AND a.privilege_type = ANY (%s) AND c.oid = ANY (SELECT to_regclass(name) FROM unnest(%s) name) ORDER BY 1",
            (list(WRITING), list(READABLE)),
        )
        return [str(role) for (role,) in cur.fetchall()]


def make_read_only(conn: Connection, role: str, *, dry_run: bool = False) -> str:
    """Leave a role nothing but SELECT on the hub's data, and return what was done. What everybody may write is taken away
    from PUBLIC too.

    Raises RolesError for a role that can write all the same, and psycopg2.Error when the server refuses.
    """
    tables = [name for kind, name in hub_relations(conn) if kind == "TABLE"]
    quoted = '"' + role.replace('"', '""') + '"'
    with conn.cursor() as cur:
        cur.execute("SELECT rolname = current_user FROM pg_roles WHERE rolname = %s", (role,))
        found = cur.fetchone()
        if found is None:
            raise RolesError(f"There is no role {role!r}.")
        if found == (True,):
            raise RolesError(
                f"{role} is the role that this program uses itself: give the pipeline a role of its own first (`rsu db roles`)."
            )
        cur.execute(
            f"REVOKE ALL ON {', '.join(tables)} FROM {quoted};"
            f"REVOKE {', '.join(WRITING)} ON {', '.join(tables)} FROM PUBLIC;"
            f"GRANT SELECT ON {', '.join(READABLE)} TO {quoted}"
        )
        cur.execute(_REACHED_BY, {"role": role, "tables": tables})
        reached = cur.fetchone()
        if reached is not None:
            conn.rollback()
            table, why = reached
            raise RolesError(
                f"{role} can write to {table} all the same, as {why}, and nothing was changed: give the tables to a role that"
                " it is no member of (`rsu db roles` does), and run it again."
            )
    if dry_run:
        conn.rollback()
    else:
        conn.commit()
    return f"{role} only reads {', '.join(READABLE)}; nobody writes to {len(tables)} tables by a grant to PUBLIC"
