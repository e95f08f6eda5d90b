"""RSU_DATABASE_URL: parsed once, and converted to the forms that psycopg2, psql and pg_dump take.

libpq parses every form of it (sockets, several hosts, services, TLS). Nothing here parses an address by itself. Every text
raised here names the server and the database, never a password.
"""

import os
import re
from dataclasses import dataclass, field

import psycopg2
import psycopg2.extensions
from psycopg2.extensions import connection as Connection

from rsu_pipeline.errors import RsuError

PROGRAM_VARIABLES = ("PGOPTIONS", "PGCLIENTENCODING", "PGTZ", "PGDATESTYLE", "PGGEQO")
"""Variables from which libpq sets up a session. This program alone decides a session's settings."""
MAX_REASON_CHARS = 1500

_REFUSED = {
    "sslpassword": "a passphrase in it would show in the list of processes. Use a key file without one, readable only by you",
    "replication": "the hub needs an ordinary session",
}


class DatabaseError(RsuError):
    """The database cannot be used. The text is one sentence: what is wrong, where, and the next step."""


class ReadOnlyError(DatabaseError):
    """The server only reads now: a standby, as for a moment in a failover, or a primary that was made so."""


@dataclass(frozen=True)
class Address:
    """RSU_DATABASE_URL as libpq parses it."""

    parts: dict[str, str] = field(repr=False)
    """libpq's parameters by name, the password among them. `options` is left out, because poolers refuse it."""
    search_path: str | None = None
    """The search path that the address requests in `options`. None leaves it to the role and the database."""

    def for_psycopg2(self, application_name: str) -> str:
        """Return the connection string of psycopg2.connect, password included."""
        defaults = {
            "connect_timeout": "10",
            "keepalives_idle": "30",
            "keepalives_interval": "10",
            "keepalives_count": "3",
        }
        if "host" in self.parts:
            # PGHOSTADDR would lead to another server than the one that is named.
            defaults["hostaddr"] = ""
        session = {"application_name": application_name, "client_encoding": "UTF8"}
        return psycopg2.extensions.make_dsn(**defaults | self.parts | session)

    def for_programs(self) -> tuple[str, dict[str, str]]:
        """Return the connection string and the environment of psql, pg_dump and pg_restore.

        The password is passed in the environment, because an argument would show in the list of processes.
        """
        public = {name: value for name, value in self.parts.items() if name != "password"}
        environment = {name: value for name, value in os.environ.items() if name not in PROGRAM_VARIABLES}
        if "host" in self.parts and "hostaddr" not in self.parts:
            environment.pop("PGHOSTADDR", None)
        if "password" in self.parts:
            environment["PGPASSWORD"] = self.parts["password"]
        return psycopg2.extensions.make_dsn(**public | {"client_encoding": "UTF8"}), environment

    def for_psql(self) -> tuple[str, dict[str, str]]:
        """Return the same for psql, whose statements find the tables by the search path."""
        conninfo, environment = self.for_programs()
        if self.search_path is not None:
            environment["PGOPTIONS"] = f"-c search_path={_escape_option(self.search_path)}"
        return conninfo, environment


def parse(url: str) -> Address:
    """Parse an address.

    Raises:
        DatabaseError: it cannot be used.
    """
    parts = _parts(url)
    if parts is None:
        raise DatabaseError(
            "RSU_DATABASE_URL cannot be read as a PostgreSQL address: use postgresql://user:password@host:5432/hub, with"
            " %40 for an @ in the password and %2F for a slash."
        )
    for name, reason in _REFUSED.items():
        if parts.get(name):
            raise DatabaseError(f"RSU_DATABASE_URL cannot have {name}: {reason}.")
    return Address(parts, _search_path(parts.pop("options", "")))


def open_connection(conninfo: str) -> Connection:
    """Open a connection whose settings do not depend on the environment.

    Raises:
        psycopg2.Error: it cannot be opened.
    """
    for variable in PROGRAM_VARIABLES:
        # libpq has no other way to ignore them.
        os.environ.pop(variable, None)
    return psycopg2.connect(conninfo)


def describe_server(url: str) -> str:
    """Return host:port/database of a URL, for people."""
    parts = _parts(url)
    if parts is None:
        return "the address in RSU_DATABASE_URL"
    hosts = (parts.get("host") or parts.get("hostaddr") or "").split(",")
    if hosts == [""]:
        hosts = [f"service {parts['service']}" if "service" in parts else os.environ.get("PGHOST") or "localhost"]
    ports = parts.get("port", os.environ.get("PGPORT", "5432")).split(",")
    ports = ports * len(hosts) if len(ports) == 1 else ports
    named = [_host_and_port(host, port) for host, port in zip(hosts, ports, strict=False)]
    return f"{','.join(named)}/{parts.get('dbname', '')}"


def explain_unreachable(url: str, error: psycopg2.Error | UnicodeDecodeError) -> str:
    """Return one sentence on why a connection failed."""
    reason = explain(url, error)
    if reason.startswith("invalid integer value") or "could not parse " in reason:
        return f"RSU_DATABASE_URL cannot be used: {reason}."
    return f"Cannot use PostgreSQL at {describe_server(url)}: {reason}. Check that it runs and that RSU_DATABASE_URL is right."


def explain(url: str, error: psycopg2.Error | UnicodeDecodeError) -> str:
    """Return everything that libpq reports, in one line and without the password.

    The address is left out if there is only one, and so are libpq's questions whether a server runs there (which it indents).
    """
    # psycopg2 decodes a server's message as UTF-8, even one from before the session has an encoding.
    text = error.object.decode("utf-8", "replace") if isinstance(error, UnicodeDecodeError) else str(error)
    lines = [line.strip().rstrip(".") for line in text.splitlines() if line.strip() and not line.startswith("\t")]
    if sum(line.startswith("connection to server ") for line in lines) < 2:
        lines = [re.sub(r"^connection to server .*? failed: (?:FATAL:\s+)?", "", line) for line in lines]
    reason = "; ".join(lines) or type(error).__name__
    password = (_parts(url) or {}).get("password")
    reason = reason.replace(password, "•••") if password else reason
    return reason if len(reason) <= MAX_REASON_CHARS else f"{reason[:MAX_REASON_CHARS]} ..."


def _parts(url: str) -> dict[str, str] | None:
    """Return the parts of an address, or None if it cannot be parsed.

    None is also returned if a bare @ or slash in its password has put a piece of the password where host, port or database
    belong.
    """
    try:
        parts = {name: str(value) for name, value in psycopg2.extensions.parse_dsn(url).items()}
    except psycopg2.ProgrammingError:
        return None
    misplaced = "@" in parts.get("host", "") + parts.get("dbname", "")
    return None if misplaced or not re.fullmatch(r"[\d,]*", parts.get("port", "")) else parts


def _host_and_port(host: str, port: str) -> str:
    return f"{f'[{host}]' if ':' in host else host}:{port or '5432'}"


def _search_path(options: str) -> str | None:
    """Return the search path in libpq's `options`.

    Raises:
        DatabaseError: there is anything else in them. Settings that the hub does not set belong to the role at the server.
    """
    words = [re.sub(r"\\(.)", r"\1", word) for word in re.findall(r"(?:\\.|[^\\\s])+", options)]
    found: str | None = None
    position = 0
    while position < len(words):
        word = words[position]
        if word == "-c" and position + 1 < len(words):
            position += 1
            word = words[position]
        elif word.startswith(("-c", "--")):
            word = word[2:]
        name, _, value = word.partition("=")
        if name.replace("-", "_").lower() != "search_path" or not value.strip():
            raise DatabaseError(
                "RSU_DATABASE_URL can have only `-c search_path=SCHEMA` in its options: leave the rest out, or set it at"
                " the server with ALTER ROLE ... SET."
            )
        found = value.strip()
        position += 1
    return found


def _escape_option(value: str) -> str:
    return re.sub(r"([\\\s])", r"\\\1", value)
