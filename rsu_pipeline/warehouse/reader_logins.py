"""Logins for analysts and their tools: roles that read the views without contact data, and nothing else.

`rsu db roles` makes group roles for an administrator to grant. These are logins for people who have no administrator, the
embedded PostgreSQL's among them. Their sessions only read, are few, and end a statement that takes too long, so that no
report delays a sync.
"""

import re
import secrets

import psycopg2
from psycopg2.extensions import connection as Connection
from psycopg2.extensions import encrypt_password

from rsu_pipeline.display import MAX_NAME_CHARS, sanitize_for_display
from rsu_pipeline.warehouse import roles
from rsu_pipeline.warehouse.addresses import open_connection
from rsu_pipeline.warehouse.login_urls import LoginAddress
from rsu_pipeline.warehouse.roles import RolesError
from rsu_pipeline.warehouse.secret_box import SecretBox

FOR_ANALYSTS = (*roles.FOR_READERS, "entrants", "partner_entrants")
"""What such a login reads: what the role reader does, and the entrants with their amounts."""
MAX_SESSIONS = 10
SETTINGS = {
    "default_transaction_read_only": "on",
    "timezone": "UTC",
    "statement_timeout": "15min",
    "idle_in_transaction_session_timeout": "10min",
    "lock_timeout": "30s",
}


def grant_reader(conn: Connection, name: str, password: str | None) -> bool:
    """Create the login, or renew the rights of an existing one, and return whether it was created. The caller commits.

    Args:
        conn: A session of a role that may create roles and grant rights on the views.
        name: The role's name.
        password: Its new password. None keeps the one it has, and creates no role.

    Raises:
        RolesError: the name cannot be used, belongs to a role that can do more than read, or there is no such role yet.
        psycopg2.Error: the server refuses.
    """
    if not re.fullmatch(r"(?!pg_)[a-z_][a-z0-9_]{0,62}", name):
        raise RolesError(
            f"The name is {sanitize_for_display(name, MAX_NAME_CHARS)!r}, but must be up to 63 small letters, digits and"
            " underscores, and begin with a letter other than pg_."
        )
    exists = _find_reader(conn, name)
    if password is None and not exists:
        raise RolesError(f"There is no login {name} whose password could be kept.")
    with conn.cursor() as cur:
        cur.execute("SELECT current_database(), current_schema()")
        catalog, schema = (_quoted(text) for text in cur.fetchone() or ("", ""))
        if not exists:
            cur.execute(f"CREATE ROLE {name} LOGIN CONNECTION LIMIT {MAX_SESSIONS}")
        if password is not None:
            # The hash is computed here, so that the password is in no statement and in no log of the server.
            hashed = encrypt_password(password, name, scope=conn, algorithm="scram-sha-256")
            cur.execute(f"ALTER ROLE {name} PASSWORD %s", (hashed,))
        for setting, value in SETTINGS.items():
            cur.execute(f"ALTER ROLE {name} SET {setting} = %s", (value,))
        cur.execute(f"ALTER ROLE {name} IN DATABASE {catalog} SET search_path = {schema}")
        cur.execute(f"GRANT CONNECT ON DATABASE {catalog} TO {name}")
        cur.execute(f"GRANT USAGE ON SCHEMA {schema} TO {name}")
        cur.execute(f"GRANT SELECT ON {', '.join(FOR_ANALYSTS)} TO {name}")
    return not exists


def generate_password() -> str:
    """Return a new password, of letters and digits only."""
    return secrets.token_hex(24)


def find_shared_login(conn: Connection, secret_box: SecretBox, address: LoginAddress) -> LoginAddress:
    """Return the address of the installation's own reader login, which works now. Commits.

    Its password is derived from the encryption key, so that it is the same on every machine of the installation and is
    stored nowhere. After a rotation of that key the password of the older key keeps working until that key is dropped.
    """
    name = f"{re.sub('[^a-z0-9_]', '_', conn.info.dbname.lower())[:50]}_analyst"
    candidates = [address.as_user(name, password) for password in secret_box.fingerprints(f"database login {name}")]
    for candidate in candidates if _find_reader(conn, name) else []:
        if _can_connect(candidate):
            grant_reader(conn, name, None)
            conn.commit()
            return candidate
    grant_reader(conn, name, candidates[0].password)
    conn.commit()
    return candidates[0]


def _can_connect(address: LoginAddress) -> bool:
    try:
        open_connection(address.url()).close()
    except psycopg2.OperationalError as error:
        # The server counts a role's sessions once the password was right.
        if "too many connections for role" in str(error):
            return True
        if "authentication failed" in str(error):
            return False
        raise
    return True


def _find_reader(conn: Connection, name: str) -> bool:
    """Return whether there is such a role.

    Raises:
        RolesError: it can do more than read.
    """
    with conn.cursor() as cur:
        cur.execute(
            "SELECT rolsuper OR rolcreaterole OR rolcreatedb OR rolreplication OR rolbypassrls OR rolname = current_user"
            " OR has_table_privilege(oid, 'runsignup_participants', 'SELECT, INSERT, UPDATE, DELETE')"
            " FROM pg_roles WHERE rolname = %s",
            (name,),
        )
        row = cur.fetchone()
    if row is not None and row[0]:
        raise RolesError(f"The role {name} can do more than read the views. Choose another name.")
    return row is not None


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'
