"""What this installation runs on: its settings, its database, the key that seals its secrets.

The database is RSU_DATABASE_URL, or a PostgreSQL of our own under the installation's home folder, started when first
asked for and stopped when the last process using it ends.
"""

from dataclasses import dataclass
from functools import cached_property, lru_cache

from rsu_pipeline import settings as configuration
from rsu_pipeline.settings import Settings
from rsu_pipeline.warehouse import database, embedded, schema_version, sealing


@dataclass(frozen=True)
class Installation:
    """One installation; see the module."""

    settings: Settings

    @cached_property
    def database_url(self) -> str:
        """libpq URL of the hub's database, reachable now. Raises EmbeddedError."""
        return self.settings.database_url or embedded.ensure_running(self.settings.home / "postgres")

    @cached_property
    def migrated_database_url(self) -> str:
        """The same, once the schema is known to be this program's: looked at once in a process, and never changed.

        An embedded database that is still empty gets its schema: we made it, and nobody else is there to.
        Raises SchemaVersionError, DatabaseError, EmbeddedError.
        """
        with database.session(self.database_url, purpose="schema check") as conn:
            if not self.settings.database_url and schema_version.read_version(conn).is_empty:
                database.migrate(conn)
            schema_version.require_current(conn, self.database_url)
        return self.database_url

    def migrate(self) -> list[str]:
        """Bring the schema up to date and return the names of the migrations applied. Raises DatabaseError, EmbeddedError."""
        with database.session(self.database_url, purpose="migrate") as conn:
            return database.migrate(conn)

    @cached_property
    def sealer(self) -> sealing.Sealer:
        """Raises SecretKeyError."""
        return sealing.load_sealer(self.settings.secret_keys, self.settings.home / "secret.key")


@lru_cache(maxsize=1)
def current() -> Installation:
    """The installation this process belongs to, as its environment describes it. Raises SettingsError."""
    return Installation(configuration.load())
