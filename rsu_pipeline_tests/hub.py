"""A hub at work for tests: a database, a sandbox, the partners onboarded, and the comparison of both."""

import datetime as dt
import os
import re
import threading
import time
import weakref
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import psycopg2
import psycopg2.extras
from cryptography.fernet import Fernet
from psycopg2.extensions import connection as Connection

from rsu_pipeline.settings import Settings, load_settings
from rsu_pipeline.sync import history, listing, partner_sync
from rsu_pipeline.sync.clocks import Clock
from rsu_pipeline.sync.history import Slice
from rsu_pipeline.sync.session import Clients, PartnerSession, partner_session_on
from rsu_pipeline.sync.sync_outcome import SyncOutcome
from rsu_pipeline.warehouse import backfill_progress, backfill_state, call_ledger, credentials, database
from rsu_pipeline.warehouse.backfill_progress import Progress
from rsu_pipeline.warehouse.registration_columns import CONTENT, INCLUDED, MEMBERS
from rsu_pipeline.warehouse.secret_box import SecretBox
from runsignup_sandbox.process import SandboxProcess

SECRET_KEY = Fernet.generate_key().decode()
Row = dict[str, Any]
_hubs: "weakref.WeakSet[Hub]" = weakref.WeakSet()


class Hub:
    """See the module. `environment` is what a process of this hub needs."""

    def __init__(self, url: str, sandbox: SandboxProcess, home: Path, **environment: str) -> None:
        self.url = url
        self.sandbox = sandbox
        self.environment = {
            "RSU_HOME": str(home),
            "RSU_DATABASE_URL": url,
            "RSU_API_BASE_URL": sandbox.api_url,
            "RSU_SECRET_KEY": SECRET_KEY,
            "RSU_CALLS_PER_HOUR": "1000000",
            "RSU_CALL_BACKOFF": "0.01",
            "RSU_READ_TIMEOUT": "2",
            # Races of tests are small: every read would be a full one. Tests of small races and proofs set it.
            "RSU_FULL_READ_UP_TO_ROWS": "0",
            **environment,
        }
        self.secret_box = SecretBox([SECRET_KEY], source="RSU_SECRET_KEY")
        self.ahead = 0.0
        """Seconds by which the hub's clock is ahead of the sandbox's, less than nothing for behind."""
        self.database_ahead: float | None = None
        """The same of the database's clock; None where it shows what the hub's does."""
        self.partners: dict[int, str] = {}
        """Partition key by the sandbox's number of the partner; our number of it is the same."""
        self._kept = threading.local()
        _hubs.add(self)
        with self._session() as conn:
            for item in sandbox.admin.partners():
                partner_id = credentials.add(
                    conn, self.secret_box, name=item["name"], principal=item["key"], secret=item["secret"]
                )
                self.partners[item["partner"]] = credentials.ensure_key(conn, partner_id)
            conn.commit()

    @property
    def settings(self) -> Settings:
        return load_settings(self.environment)

    @contextmanager
    def partner_session(
        self,
        partner: int = 1,
        *,
        lane: call_ledger.Lane = "routine",
        run_id: str = "test",
        retry_rejected: bool = False,
    ) -> Iterator[PartnerSession]:
        """Provide the session of one of the sandbox's partners.

        It decides tiers by the sandbox's clock, or by one that is `ahead` of it.
        """
        now = dt.datetime.fromtimestamp(self.sandbox.admin.clock() + self.ahead, dt.UTC)
        database_now = None
        if self.database_ahead is not None:
            shown = now + dt.timedelta(seconds=self.database_ahead - self.ahead)
            database_now = lambda: shown  # noqa: E731
        settings = self.settings
        clock = Clock(settings.sync.max_clock_skew, hub=lambda: now, database=database_now)
        with (
            self._session(f"sync {run_id[:8]}") as conn,
            self._session(f"ledger {run_id[:8]}") as ledger_conn,
            closing(Clients(settings, ledger_conn, lane, clock.hear)) as clients,
            partner_session_on(
                conn,
                clients,
                self.secret_box,
                settings,
                self.partners[partner],
                run_id=run_id,
                log=lambda line: None,
                clock=clock,
                retry_rejected=retry_rejected,
            ) as session,
        ):
            yield session

    def sync(
        self, partner: int = 1, *, full: bool = False, confirm_removals: bool = False, retry_rejected: bool = False
    ) -> SyncOutcome:
        """Sync listing, plan and registrations of one partner, as the assets do."""
        with self.partner_session(partner, retry_rejected=retry_rejected) as session:
            listing.refresh_events(session)
            plan = partner_sync.make_plan(session, force_full=full)
            return partner_sync.sync_participants(session, plan, confirm_removals=confirm_removals)

    def history(
        self,
        partner: int = 1,
        *,
        seconds: float = 1e6,
        ask: bool = True,
        since_year: int | None = None,
        reload: bool = False,
    ) -> Slice:
        """Read a slice of a partner's history, requested first unless `ask` is false."""
        with self.partner_session(partner, lane="backfill") as session:
            if ask:
                backfill_state.request_backfill(session.conn, session.partner_id, since_year=since_year, reload=reload)
                session.conn.commit()
            return history.run_slice(session, seconds)

    def history_progress(self, partner: int = 1) -> Progress:
        """Return how far it is."""
        now = dt.datetime.fromtimestamp(self.sandbox.admin.clock(), dt.UTC)
        with database.session(self.url, purpose="tests") as conn:
            found = backfill_progress.read_progress(conn, partner, now)
        assert found is not None
        return found

    def rows(self, query: str, *parameters: object) -> list[Row]:
        """Return the rows of a query as dicts."""
        with self._session() as conn, conn.cursor(cursor_factory=psycopg2.extras.RealDictCursor) as cur:
            cur.execute(query, parameters or None)
            return [dict(row) for row in cur.fetchall()]

    def value(self, query: str, *parameters: object) -> Any:
        """Return the one value of a query."""
        ((value,),) = [tuple(row.values()) for row in self.rows(query, *parameters)]
        return value

    def execute(self, statement: str, *parameters: object) -> None:
        with self._session() as conn, conn.cursor() as cur:
            cur.execute(statement, parameters or None)
            conn.commit()

    @contextmanager
    def _session(self, purpose: str = "tests") -> Iterator[Connection]:
        """Provide a session of the hub's. What is not committed is rolled back.

        Each thread keeps its sessions, since opening one takes longer than most queries and a new one has no table in its caches.
        A block that fails ends its session, as the end of a process does.
        """
        free: dict[tuple[int, str, str], Connection] = self._kept.__dict__
        key = (os.getpid(), self.url, purpose)
        conn = free.pop(key, None)
        if conn is None or not _answers(conn):
            conn = database.connect(self.url, purpose=purpose)
        try:
            with database.explained(self.url, conn):
                yield conn
                conn.rollback()
        except BaseException:
            database.close(self.url, conn)
            raise
        if free.setdefault(key, conn) is not conn:
            database.close(self.url, conn)

    def close(self) -> None:
        """End the sessions that this thread keeps."""
        while self._kept.__dict__:
            database.close(self.url, self._kept.__dict__.popitem()[1])

    def wait_for_sessions_to_end(self) -> None:
        """Wait until PostgreSQL has noticed that a killed process's sessions ended."""
        self.close()
        deadline = time.monotonic() + 30
        while self.value(
            "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
            " AND backend_type = 'client backend'"
        ):
            assert time.monotonic() < deadline, "a session of the killed process goes on"
            time.sleep(0.01)

    def stored(self, partner: int = 1, *, active: bool = True) -> dict[int, Row]:
        """Return the partner's rows by registration id, in the form of `expected`."""
        rows = self.rows(
            "SELECT * FROM runsignup_participants WHERE timing_partner_id = %s AND (removed_at IS NULL) = %s",
            partner,
            active,
        )
        return {row["registration_id"]: {name: row[name] for name in FIELDS} for row in rows}

    def truth(self, partner: int = 1, *, past_too: bool = False) -> dict[int, Row]:
        """Return what the partner's active registrations of future events should be, by registration id.

        Of all events `past_too`.
        """
        if past_too:
            return {row["registration_id"]: expected(row) for row in self.sandbox.admin.truth(partner)["active"]}
        future = {
            row["event_id"]
            for row in self.rows("SELECT event_id FROM future_events WHERE timing_partner_id = %s", partner)
        }
        truth = self.sandbox.admin.truth(partner)
        rows = [row for row in truth["active"] if row["event_id"] in future]
        return {row["registration_id"]: expected(row) for row in rows}

    def assert_equal(self, partner: int = 1, *, past_too: bool = False) -> None:
        """Assert that the table equals the sandbox's truth, field by field: of future events, or of all if `past_too`."""
        truth, stored = self.truth(partner, past_too=past_too), self.stored(partner)
        future = {
            row["event_id"]
            for row in self.rows("SELECT event_id FROM future_events WHERE timing_partner_id = %s", partner)
        }
        stored = {key: row for key, row in stored.items() if past_too or row["event_id"] in future}
        assert stored.keys() == truth.keys(), (
            f"only stored: {sorted(stored.keys() - truth.keys())[:5]},"
            f" only at RunSignup: {sorted(truth.keys() - stored.keys())[:5]}"
        )
        for key, row in truth.items():
            wrong = {name: (stored[key][name], row[name]) for name in FIELDS if stored[key][name] != row[name]}
            assert not wrong, f"registration {key}: stored and true values differ: {wrong}"

    def assert_removals(self, partner: int = 1) -> None:
        """Assert that no row is marked removed that is active at RunSignup.

        Each has RunSignup's reason and pointer, or `missing_upstream` where RunSignup gives none.
        """
        truth = self.sandbox.admin.truth(partner)
        removed = {row["registration_id"]: row for row in truth["removed"]}
        rows = self.rows(
            "SELECT registration_id, removed_reason, removed_epoch, new_registration_id FROM runsignup_participants"
            " WHERE timing_partner_id = %s AND removed_at IS NOT NULL",
            partner,
        )
        for row in rows:
            theirs = removed.get(row["registration_id"])
            if theirs is None:
                assert row["removed_reason"] == "missing_upstream", row
                continue
            assert (row["removed_reason"], row["removed_epoch"], row["new_registration_id"]) == (
                theirs["removed_reason"],
                theirs["last_modified_ts"],
                theirs["new_registration_id"],
            ), row

    def assert_proved_equal(self, partner: int = 1) -> None:
        """Assert that the last full read of every event was proved equal, and none waits for another."""
        rows = self.rows(
            "SELECT event_id, needs_full, read_rows, stored_rows, read_hash = stored_hash AS is_same FROM event_cursors"
            " WHERE timing_partner_id = %s AND (needs_full IS NOT NULL"
            " OR (read_rows, read_hash) IS DISTINCT FROM (stored_rows, stored_hash))",
            partner,
        )
        assert rows == [], "an event that equals RunSignup is not proved equal"

    def assert_bib_log_replays(self, partner: int = 1) -> None:
        """Assert that replaying the log over the first load gives today's bibs, each change from the bib before it."""
        bibs = {
            row["registration_id"]: row["first_bib"]
            for row in self.rows(
                "SELECT registration_id, first_bib FROM runsignup_participants WHERE timing_partner_id = %s", partner
            )
        }
        log = self.rows(
            "SELECT * FROM runsignup_bib_changes WHERE timing_partner_id = %s ORDER BY bib_change_id", partner
        )
        for change in log:
            assert bibs[change["registration_id"]] == change["old_bib"], change
            bibs[change["registration_id"]] = change["new_bib"]
        for key, row in self.stored(partner).items():
            bib = row["bib_num"] or (row["team_info"] or {}).get("team_bib_num")
            assert bibs[key] == (None if bib in (None, "") else str(bib)), (key, bibs[key], bib)


def close_sessions(url: str) -> None:
    """End what hubs keep open at a database."""
    for hub in list(_hubs):
        if hub.url.partition("?")[0] == url:
            hub.close()


def _answers(conn: Connection) -> bool:
    """Return whether a session can be used."""
    try:
        with conn, conn.cursor() as cur:
            cur.execute("SELECT 1")
    except (psycopg2.OperationalError, psycopg2.InterfaceError):
        return False
    return True


FIELDS = [
    column.name for column in CONTENT if column not in INCLUDED and column.name not in ("additional_data", "payload")
] + ["registered_at"]
EASTERN = ZoneInfo("America/New_York")


def expected(row: Mapping[str, Any]) -> Row:
    """Return the columns that a row of RunSignup should give, derived here, not by the code under test."""
    user = row["user"]
    month, day, year, hour, minute = (int(part) for part in re.findall(r"\d+", row["registration_date"]))
    wall = dt.datetime(year, month, day, hour, minute)
    # PostgreSQL takes the later of the two readings of a repeated hour, and so does fold=1.
    instant = wall.replace(tzinfo=EASTERN, fold=1).astimezone(dt.UTC)
    return {
        "race_id": row["_race_id"],
        "event_id": row["event_id"],
        "registration_id": row["registration_id"],
        "user_id": user["user_id"],
        **{name: user.get(name) for name in ("first_name", "middle_name", "last_name", "email", "gender", "phone")},
        "profile_image_url": user.get("profile_image_url"),
        "dob": dt.date.fromisoformat(user["dob"]) if user.get("dob") else None,
        "bib_num": None if row["bib_num"] is None else str(row["bib_num"]),
        "chip_num": row["chip_num"],
        "age": row["age"],
        "registration_date": wall,
        "registered_at": instant,
        "last_modified_epoch": row["last_modified"],
        "address": user["address"],
        "team_info": {name: row[name] for name in row if name.startswith("team_") and name != "team_fundraiser_id"},
        "payment_info": {name: _number(row[name]) for name in PAYMENT if name in row},
    }


PAYMENT = [member.name for member in MEMBERS if member.column == "payment_info"]


def _number(value: Any) -> Any:
    if isinstance(value, str) and "$" in value:
        return float(value.replace("$", "").replace(",", ""))
    return value
