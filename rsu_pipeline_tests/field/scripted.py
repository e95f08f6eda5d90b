"""RunSignup as scripted, and a hub that reads it.

    def test_a_bib_arrives(field: Field) -> None:
        field.runsignup.race(1, field.runsignup.event(101))
        field.runsignup.enter(101, 2001)
        field.sync()
        field.runsignup.enter(101, 2001, bib_num=7)
        field.sync()
        assert field.registrations()[2001]["bib_num"] == "7"

Rows are sent as written: a keyword replaces a member of the usual layout, `without` leaves members out, and any member may
have any shape. `RunSignup.answer` replaces whole answers, once or for good.
"""

import datetime as dt
import json
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import requests

from rsu_pipeline.start_lists import start_list_store
from rsu_pipeline.sync.sync_outcome import SyncOutcome
from rsu_pipeline.warehouse import database, fleet_facts
from rsu_pipeline_tests.hub import Hub
from rsu_pipeline_tests.servers import serving
from runsignup_sandbox.process import SandboxProcess

Row = dict[str, Any]
ZONE = "America/New_York"
HOUR = 3600


class RunSignup:
    """The script: what RunSignup has in a test. Every change is sent to the server at once."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.api_url = f"{url}/rest"
        self.reset()

    def reset(self) -> None:
        """Forget everything, so that the next test begins with a RunSignup without races."""
        self.partners: list[Row] = [{"partner": 1, "name": "Acme Timing", "key": "key-1", "secret": "secret-1"}]
        """Partners that the hub onboards: number, name, key and secret. Set before `Field` is made."""
        self.clock: float | None = None
        """RunSignup's and the hub's clock in Unix seconds; None: this machine's."""
        self._races: dict[int, Row] = {}
        self._rows: dict[int, dict[int, Row]] = {}
        self._removed: dict[int, dict[int, Row]] = {}
        self._answers: list[Row] = []
        self._max_rows: dict[str, int] = {}
        self.tell()
        self.calls()

    def now(self) -> float:
        return time.time() if self.clock is None else self.clock

    def event(self, event_id: int, /, *, in_hours: float = 400, without: Sequence[str] = (), **members: Any) -> Row:
        """Return an event that starts in this number of hours, for `race`."""
        start = dt.datetime.fromtimestamp(self.now() + in_hours * HOUR, dt.UTC)
        event = {
            "event_id": event_id,
            "race_event_days_id": 300501,
            "name": f"Event {event_id}",
            "start_time": f"{start:%Y-%m-%dT%H:%M:00+00:00}",
            "end_time": None,
            "age_calc_base_date": None,
            "event_type": "running_race",
            "volunteer": "F",
            "sub_event_ids": [],
        }
        return _members(event | members, without)

    def race(
        self, race_id: int, /, *events: Row, key: str | None = None, without: Sequence[str] = (), listed: Row | None = None,
        **members: Any,
    ) -> None:  # fmt: skip
        """Let RunSignup have a race with these events.

        Args:
            race_id: The race. An existing one is replaced.
            events: Its events, in the listing and in the detail.
            key: API key that sees it, or None for every key.
            without: Members to leave out.
            listed: Members that differ in the listing.
            members: Members that replace the usual ones.
        """
        race = {
            "race_id": race_id,
            "name": f"Race {race_id}",
            "next_date": "12/20/2027",
            "last_modified": "9/30/2026 08:05",
            "timezone": ZONE,
            "events": list(events),
        }
        detail = _members(race | members, without)
        self._races[race_id] = {"key": key, "detail": detail, "listed": detail | (listed or {})}
        self.tell()

    def delete_race(self, race_id: int) -> None:
        del self._races[race_id]
        self.tell()

    def enter(
        self, event_id: int, registration_id: int, /, *, without: Sequence[str] = (), user: Any = None, **members: Any
    ) -> None:
        """Let RunSignup have an active registration, or replace it.

        `user` replaces members of the person, or all of it when it is no dict.
        """
        person = {
            "user_id": registration_id * 10,
            "first_name": "Ines",
            "last_name": f"Okafor {registration_id}",
            "email": f"r{registration_id}@example.test",
            "address": {
                "street": "4 Elm Ct",
                "city": "Harwick",
                "state": "IL",
                "zipcode": "60900",
                "country_code": "US",
            },
            "dob": "1991-02-17",
            "gender": "F",
            "phone": "312-555-0142",
        }
        row = {
            "user": person | user if isinstance(user, dict) else person if user is None else user,
            "registration_id": registration_id,
            "event_id": event_id,
            "bib_num": None,
            "chip_num": None,
            "age": 36,
            "registration_date": "8/14/2026 21:07",
            "last_modified": int(self.now()),
        }
        self._removed.get(event_id, {}).pop(registration_id, None)
        self._rows.setdefault(event_id, {})[registration_id] = _members(row | members, without)
        self.tell()

    def remove(self, event_id: int, registration_id: int, /, reason: str = "removed", **members: Any) -> None:
        """Move an active registration to the removed ones."""
        row = self._rows[event_id].pop(registration_id)
        removed = {"user": row["user"], "registration_id": registration_id, "removed_reason": reason}
        removed |= {"last_modified_ts": int(self.now()), "new_registration_id": None}
        self._removed.setdefault(event_id, {})[registration_id] = removed | members
        self.tell()

    def forget(self, event_id: int, registration_id: int) -> None:
        """Drop a registration without a trace."""
        for held in (self._rows, self._removed):
            held.get(event_id, {}).pop(registration_id, None)
        self.tell()

    def answer(
        self, feed: str, body: object, *, race: int | None = None, event: int | None = None, times: int | None = None,
        status: int = 200, headers: dict[str, str] | None = None,
    ) -> None:  # fmt: skip
        """Replace the answers to some calls.

        Args:
            feed: `races`, `race`, `participants` or `removed-participants`.
            body: Bytes or text as they are to be sent, or anything else as JSON.
            race: Only calls for this race.
            event: Only calls that name this event among others.
            times: How many calls are answered so, or None for all.
            status: HTTP status.
            headers: More headers, or others.
        """
        sent = (
            body if isinstance(body, bytes) else body.encode() if isinstance(body, str) else json.dumps(body).encode()
        )
        own = {"feed": feed, "race": race, "event": event, "times": times, "status": status, "headers": headers or {}}
        self._answers.append(own | {"body": sent.decode("latin-1")})
        self.tell()

    def refuse(self, feed: str, code: int, message: str = "refused", **where: Any) -> None:
        """Answer with RunSignup's error object. `where` is as for `answer`."""
        self.answer(feed, {"error": {"error_code": code, "error_msg": message}}, **where)

    def behave(self) -> None:
        """Forget every `answer` and `refuse`."""
        self._answers.clear()
        self.tell()

    def clamp(self, **rows: int) -> None:
        """Limit the rows of a page whatever is requested, by feed (`removed` for removed-participants)."""
        self._max_rows = {"removed-participants" if name == "removed" else name: most for name, most in rows.items()}
        self.tell()

    def tell(self) -> None:
        """Bring the server up to date. Needed only after `clock` was set."""
        world = {
            "races": list(self._races.values()),
            "rows": {event: list(rows.values()) for event, rows in self._rows.items()},
            "removed": {event: list(rows.values()) for event, rows in self._removed.items()},
            "answers": self._answers,
            "max_rows": self._max_rows,
            "clock": self.clock,
        }
        requests.put(self.url, json=world, timeout=10).raise_for_status()

    def calls(self) -> list[Row]:
        """Return the calls since this was last called: feed, race, events and query of each."""
        found: list[Row] = requests.get(f"{self.url}/calls", timeout=10).json()
        return found


@contextmanager
def runsignup_as_scripted() -> Iterator[RunSignup]:
    """Start the server, which ends with the block."""
    with serving(sys.executable, "-m", "rsu_pipeline_tests.field.server") as url:
        yield RunSignup(url)


class Field(Hub):
    """A hub database, its partners onboarded, and RunSignup as scripted."""

    def __init__(self, url: str, runsignup: RunSignup, home: Path, **environment: str) -> None:
        self.runsignup = runsignup
        # The base class asks a sandbox only for these.
        admin = SimpleNamespace(partners=lambda: runsignup.partners, clock=runsignup.now)
        sandbox = cast(SandboxProcess, SimpleNamespace(api_url=runsignup.api_url, admin=admin))
        super().__init__(url, sandbox, home, **environment)

    def full_sync(self, partner: int = 1, **options: Any) -> SyncOutcome:
        """Sync with every event read in full."""
        return self.sync(partner, full=True, **options)

    def registrations(self, partner: int = 1) -> dict[int, Row]:
        """Return the active registrations of a partner by number."""
        rows = self.rows(
            "SELECT * FROM runsignup_participants WHERE timing_partner_id = %s AND removed_at IS NULL", partner
        )
        return {row["registration_id"]: row for row in rows}

    def removed(self, partner: int = 1) -> dict[int, Row]:
        """Return the removed registrations of a partner by number."""
        rows = self.rows(
            "SELECT * FROM runsignup_participants WHERE timing_partner_id = %s AND removed_at IS NOT NULL", partner
        )
        return {row["registration_id"]: row for row in rows}

    def bib_log(self) -> list[tuple[int, str | None, str | None]]:
        """Return registration, old and new bib of each logged change, in order."""
        rows = self.rows("SELECT * FROM runsignup_bib_changes ORDER BY bib_change_id")
        return [(row["registration_id"], row["old_bib"], row["new_bib"]) for row in rows]

    def start_list(self, partner: int = 1) -> dict[int, Row]:
        """Return the entrants of a partner's start lists as they are, by registration."""
        rows = self.rows("SELECT * FROM start_list WHERE timing_partner_id = %s", partner)
        return {row["registration_id"]: row for row in rows}

    def rebuild_lists(self, partner: int = 1) -> None:
        """Rebuild a partner's start lists."""
        with database.session(self.url, purpose="tests") as conn:
            start_list_store.rebuild(conn, partner, dt.datetime.fromtimestamp(self.runsignup.now(), dt.UTC))
            conn.commit()

    def assert_log_replays(self) -> None:
        """Assert that the check `bib_log_replays` is green and that the replayed log gives today's bibs."""
        with database.session(self.url, purpose="tests") as conn:
            assert fleet_facts.replay_bib_log(conn, 5).wrong == 0
        for partner in self.partners:
            self.assert_bib_log_replays(partner)

    def reasons(self) -> dict[int, str]:
        """Return why something of a registration was not taken over, by registration."""
        rows = self.rows("SELECT * FROM quarantined_rows WHERE resolved_at IS NULL")
        return {row["registration_id"]: row["reason"] for row in rows}

    def reported(self) -> str:
        """Return what the last listing reported."""
        found = self.rows("SELECT reason FROM sync_history WHERE race_id IS NULL ORDER BY sync_history_id DESC LIMIT 1")
        return str(found[0]["reason"])


def _members(row: Row, without: Sequence[str]) -> Row:
    return {name: value for name, value in row.items() if name not in without}
