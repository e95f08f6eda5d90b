"""Revoke a role's right to write to the hub's tables, for example that of the program that was replaced."""

from psycopg2.extensions import connection as Connection

from rsu_pipeline.warehouse.roles import RolesError, hub_relations

WRITING = ("INSERT", "UPDATE", "DELETE", "TRUNCATE")
READABLE = (
    *("runsignup_races", "runsignup_events", "runsignup_participants", "sync_history", "timing_partners", "providers"),
    *("unified_events", "unified_participants"),
)
"""What the role may read afterwards. Credentials are not included."""

_REACHED_BY = f"""
SELECT c.relname::text, CASE WHEN u.rolsuper THEN 'a superuser' ELSE 'owner or member of ' || quote_ident(r.rolname) END
FROM pg_class c CROSS JOIN pg_roles u JOIN pg_roles r ON r.oid = c.relowner OR EXISTS (
    SELECT FROM aclexplode(c.relacl) a WHERE a.grantee = r.oid AND a.privilege_type = ANY (ARRAY{list(WRITING)}))
WHERE u.rolname = %(role)s AND c.oid = ANY (SELECT to_regclass(name) FROM unnest(%(tables)s) name)
    AND (u.rolsuper OR pg_has_role(u.oid, r.oid, 'USAGE'))
ORDER BY 1, r.oid = c.relowner DESC LIMIT 1
"""


def list_writers(conn: Connection) -> list[str]:
    """Return the roles with a grant to write to the hub's data, PUBLIC included. Owners need no grant."""
    with conn.cursor() as cur:
        cur.execute(
            "SELECT DISTINCT CASE WHEN a.grantee = 0 THEN 'PUBLIC' ELSE pg_get_userbyid(a.grantee)::text END"
            " FROM pg_class c CROSS JOIN LATERAL aclexplode(c.relacl) a WHERE c.relkind = 'r' AND a.grantee <> c.relowner"
            " AND a.privilege_type = ANY (%s) AND c.oid = ANY (SELECT to_regclass(name) FROM unnest(%s) name) ORDER BY 1",
            (list(WRITING), list(READABLE)),
        )
        return [str(role) for (role,) in cur.fetchall()]


def make_read_only(conn: Connection, role: str, *, dry_run: bool = False) -> str:
    """Restrict a role to SELECT on the hub's data, and return what was done. Grants to write are revoked from PUBLIC too.

    Raises:
        RolesError: the role can write all the same.
        psycopg2.Error: the server refuses.
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
                f"{role} is the role that this program uses itself: give the pipeline its own role first (`rsu db roles`)."
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
                f"{role} can still write to {table}, as {why}, and nothing was changed: give the tables to a role of which it is"
                " no member (`rsu db roles` does), and run it again."
            )
    if dry_run:
        conn.rollback()
    else:
        conn.commit()
    return f"{role} only reads {', '.join(READABLE)}, and PUBLIC has no grant to write to {len(tables)} tables"
