"""What this installation runs on: its settings, its database, and the key that encrypts its secrets.

The database is RSU_DATABASE_URL, or an embedded PostgreSQL under the installation's home folder, started when it is
first needed and stopped when the last process using it ends.
"""

from dataclasses import dataclass
from functools import cached_property, lru_cache

from rsu_pipeline.local import embedded
from rsu_pipeline.settings import Settings, load_settings
from rsu_pipeline.warehouse import database, schema_version
from rsu_pipeline.warehouse.secret_box import SecretBox, load_secret_box


@dataclass(frozen=True)
class Installation:
    """One installation: its settings, database and encryption key."""

    settings: Settings

    @cached_property
    def database_url(self) -> str:
        """The hub's database as a libpq URL, reachable now.

        Raises:
            EmbeddedError: the embedded PostgreSQL cannot be started.
        """
        return self.settings.database_url or embedded.ensure_running(self.settings.home / "postgres")

    @cached_property
    def migrated_database_url(self) -> str:
        """The same, after a check that the schema is this program's. The check runs once per process and changes nothing.

        An embedded database that is still empty gets its schema: this program created it, and no other program will.

        Raises:
            SchemaVersionError: the schema has another version.
            DatabaseError: the database cannot be reached.
            EmbeddedError: the embedded PostgreSQL cannot be started.
        """
        with database.session(self.database_url, purpose="schema check") as conn:
            if not self.settings.database_url and schema_version.read_version(conn).is_empty:
                database.migrate(conn)
            schema_version.require_current(conn, self.database_url)
        return self.database_url

    def migrate(self) -> list[str]:
        """Migrate the schema, and return the names of the migrations applied.

        Raises:
            DatabaseError: the database cannot be reached or migrated.
            EmbeddedError: the embedded PostgreSQL cannot be started.
        """
        with database.session(self.database_url, purpose="migrate") as conn:
            return database.migrate(conn)

    @cached_property
    def secret_box(self) -> SecretBox:
        """The key that encrypts secrets.

        Raises:
            SecretKeyError: it cannot be read.
        """
        return load_secret_box(self.settings.secret_keys, self.settings.home / "secret.key")


@lru_cache(maxsize=1)
def current() -> Installation:
    """Return the installation this process belongs to, as its environment describes it.

    Raises:
        SettingsError: a setting cannot be used.
    """
    return Installation(load_settings())
