"""The address of the database as a URL for other programs: libpq's form, and that of JDBC."""

from dataclasses import dataclass, field, replace
from urllib.parse import quote, urlencode

from psycopg2.extensions import connection as Connection

from rsu_pipeline.warehouse.addresses import Address

KEPT = ("sslmode", "sslrootcert", "sslcrl", "sslsni", "channel_binding", "gssencmode", "target_session_attrs")
"""Parameters of RSU_DATABASE_URL that every user of the server needs."""
OF_USER = ("sslcert", "sslkey")
"""Parameters that belong to the pipeline's own role."""
JDBC_SERVER_TYPES = {"read-write": "primary", "primary": "primary", "any": "any", "prefer-standby": "preferSecondary"}


@dataclass(frozen=True)
class LoginAddress:
    """Where the database is and who logs in. `hosts` are (host, port) in the order of trying them."""

    hosts: tuple[tuple[str, str], ...]
    database: str
    user: str
    password: str = field(repr=False)
    search_path: str | None
    parameters: tuple[tuple[str, str], ...] = ()

    @classmethod
    def of(cls, conn: Connection, address: Address) -> "LoginAddress":
        """Return the address of a session, with whatever a service, a password file or the environment added to it."""
        info = conn.info
        hosts = address.parts.get("host") or info.host or "localhost"
        ports = address.parts.get("port") or str(info.port)
        listed = hosts.split(",")
        each = ports.split(",") if "," in ports else [ports] * len(listed)
        kept = tuple((name, address.parts[name]) for name in (*KEPT, *OF_USER) if name in address.parts)
        return cls(
            tuple(zip(listed, each, strict=True)),
            info.dbname,
            info.user,
            info.password or "",
            address.search_path,
            kept,
        )

    def as_user(self, user: str, password: str) -> "LoginAddress":
        """Return the same address for another user."""
        kept = tuple(item for item in self.parameters if item[0] not in OF_USER)
        return replace(self, user=user, password=password, parameters=kept)

    def url(self) -> str:
        """Return the libpq URL, password included, which psql, pandas and most tools take."""
        login = quote(self.user, safe="") + (f":{quote(self.password, safe='')}" if self.password else "")
        parameters = list(self.parameters)
        sockets = [host for host, _ in self.hosts if host.startswith("/")]
        if sockets:
            # A folder cannot be the host of a URL.
            parameters += [("host", host) for host, _ in self.hosts[:1]] + [("port", self.hosts[0][1])]
            place = ""
        else:
            place = ",".join(f"{_bracketed(host)}:{port}" for host, port in self.hosts)
        if self.search_path:
            parameters.append(("options", f"-c search_path={self.search_path}"))
        query = f"?{urlencode(parameters, quote_via=quote)}" if parameters else ""
        return f"postgresql://{login}@{place}/{quote(self.database, safe='')}{query}"

    def jdbc_url(self) -> str:
        """Return the URL for JDBC, password included."""
        place = ",".join(f"{_bracketed(host)}:{port}" for host, port in self.hosts)
        parameters = [("user", self.user), ("password", self.password)]
        for name, value in self.parameters:
            if name == "target_session_attrs":
                parameters.append(("targetServerType", JDBC_SERVER_TYPES.get(value, "any")))
            elif name in ("sslmode", "sslrootcert"):
                parameters.append((name, value))
        if self.search_path:
            parameters.append(("currentSchema", self.search_path))
        return f"jdbc:postgresql://{place}/{quote(self.database, safe='')}?{urlencode(parameters, quote_via=quote)}"


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else quote(host, safe="")
