"""Partners, races and events put into a database by hand, for tests of what is due."""

import datetime as dt

from psycopg2.extensions import connection as Connection

from rsu_pipeline.warehouse import fleet
from rsu_pipeline.warehouse.fleet import FleetRace

NOW = dt.datetime(2026, 10, 3, 12, 0, tzinfo=dt.UTC)
MINUTE = dt.timedelta(minutes=1)
HOUR = dt.timedelta(hours=1)


class Fleet:
    """Partners, races and events put in by hand. Numbers are the callers'."""

    def __init__(self, conn: Connection) -> None:
        self.conn = conn

    def sql(self, statement: str, *parameters: object) -> None:
        with self.conn.cursor() as cur:
            cur.execute(statement, parameters or None)

    def partner(self, number: int) -> None:
        self.sql(
            "INSERT INTO timing_partners (timing_partner_id, company_name, partition_key) VALUES (%s, %s, %s)",
            number,
            f"Partner {number}",
            f"{number}-acme",
        )
        self.sql(
            "INSERT INTO partner_provider_credentials (timing_partner_id, provider_id, principal, secret)"
            " SELECT %s, provider_id, 'key', 'secret' FROM providers WHERE name = 'RunSignup'",
            number,
        )

    def race(self, race_id: int, *partners: int) -> None:
        self.sql("INSERT INTO runsignup_races (race_id, name) VALUES (%s, 'Fun Run')", race_id)
        for partner in partners:
            self.sql("INSERT INTO partner_races (timing_partner_id, race_id) VALUES (%s, %s)", partner, race_id)

    def event(
        self, event_id: int, race_id: int, start: dt.timedelta | None = None, end: dt.timedelta | None = None
    ) -> None:
        """Add an event that starts and ends that long after NOW."""
        self.sql(
            "INSERT INTO runsignup_events (event_id, race_id, starts_at, ends_at) VALUES (%s, %s, %s, %s)",
            event_id,
            race_id,
            None if start is None else NOW + start,
            None if end is None else NOW + end,
        )

    def tried(
        self,
        partner: int,
        race_id: int | None,
        ago: dt.timedelta,
        status: str = "completed",
        events: list[int] | None = None,
    ) -> None:
        """Note a read of these events of the race, or of all it has."""
        self.sql(
            "INSERT INTO sync_history (timing_partner_id, race_id, status, finished_at, event_ids) VALUES (%s, %s, %s, %s,"
            " coalesce(%s::bigint[], ARRAY (SELECT event_id FROM runsignup_events WHERE race_id = %s)))",
            partner,
            race_id,
            status,
            NOW - ago,
            events,
            race_id,
        )

    def cursor(self, partner: int, event_id: int, ago: dt.timedelta) -> None:
        self.sql(
            "INSERT INTO event_cursors (timing_partner_id, event_id, race_id, modified_after, removed_after, first_loaded_at,"
            " last_full_at, last_read_at) SELECT %s, event_id, race_id, 0, 0, %s, %s, %s FROM runsignup_events"
            " WHERE event_id = %s",
            partner,
            NOW,
            NOW,
            NOW - ago,
            event_id,
        )

    def partners(self) -> dict[int, tuple[dt.timedelta | None, bool]]:
        """Return how long ago each was listed, and whether that failed, in the order they come in."""
        found = fleet.select_partners_to_sync(self.conn, NOW)
        return {one.partner_id: (None if one.listed_at is None else NOW - one.listed_at, one.failed) for one in found}

    def races(self) -> dict[tuple[int, int], FleetRace]:
        return {(race.partner_id, race.race_id): race for race in fleet.select_races_to_read(self.conn, NOW)}

    def ago(self, partner: int, race_id: int) -> tuple[dt.timedelta | None, bool]:
        """Return how long ago the most neglected event of the race was tried, and whether the race's last try failed."""
        race = self.races()[partner, race_id]
        times = [time for time in race.tried_at if time is not None]
        return NOW - min(times) if len(times) == len(race.times) else None, race.failed
