"""Races, events and entrants put into a database by hand, and their start lists read back and recomputed."""

import datetime as dt
import itertools
import json
import re
import statistics
from typing import Any

import psycopg2.extras
from psycopg2.extensions import connection as Connection

from rsu_pipeline.start_lists import start_list_store
from rsu_pipeline.start_lists.start_list_store import RebuildResult

NOW = dt.datetime(2026, 10, 1, 12, 0, tzinfo=dt.UTC)
START = dt.datetime(2026, 10, 3, 8, 0)
"""Wall time in the race's zone."""
RACE = 1
Row = dict[str, Any]


class Lists:
    """One partner's races, and what becomes of them. Numbers are the callers', and nothing is committed."""

    def __init__(self, conn: Connection, partner: int = 1) -> None:
        self.conn = conn
        self.partner = partner
        self._registrations = itertools.count(1000)
        self.sql(
            "INSERT INTO timing_partners (timing_partner_id, company_name, partition_key) VALUES (%s, 'Acme', %s)",
            partner,
            f"{partner}-acme",
        )

    def sql(self, statement: str, *parameters: object) -> None:
        with self.conn.cursor() as cur:
            cur.execute(statement, parameters or None)

    def rows(self, query: str, *parameters: object) -> list[Row]:
        with self.conn.cursor(cursor_factory=psycopg2.extras.RealDictCursor) as cur:
            cur.execute(query, parameters or None)
            return [dict(row) for row in cur.fetchall()]

    def race(self, race_id: int = RACE, name: str = "Fun Run") -> int:
        self.sql("INSERT INTO runsignup_races (race_id, name) VALUES (%s, %s)", race_id, name)
        self.sql("INSERT INTO partner_races (timing_partner_id, race_id) VALUES (%s, %s)", self.partner, race_id)
        return race_id

    def event(
        self,
        event_id: int,
        *,
        race: int = RACE,
        start: dt.datetime | None = START,
        zone_hours: int = -4,
        edition: int | None = 1,
        volunteer: bool = False,
        bundle_of: tuple[int, ...] = (),
        planned: bool = True,
    ) -> int:
        """Add an event, of the plan unless `planned` is false, and read once, and return its number."""
        starts_at = start and (start - dt.timedelta(hours=zone_hours)).replace(tzinfo=dt.UTC)
        self.sql(
            "INSERT INTO runsignup_events (event_id, race_id, race_event_days_id, name, start_time, starts_at, volunteer,"
            " is_bundle, sub_event_ids) VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s::bigint[])",
            event_id, race, edition, f"Event {event_id}", start, starts_at, volunteer, bool(bundle_of), list(bundle_of),
        )  # fmt: skip
        if planned:
            self.plan(event_id)
        self.sql(
            "INSERT INTO event_cursors (timing_partner_id, event_id, race_id, modified_after, removed_after, first_loaded_at,"
            " last_full_at, last_read_at) VALUES (%s, %s, %s, 0, 0, now(), now(), now())",
            self.partner, event_id, race,
        )  # fmt: skip
        return event_id

    def plan(self, event_id: int) -> None:
        self.sql(
            "INSERT INTO future_events (timing_partner_id, event_id, race_id, tier, next_read, reason)"
            " SELECT %s, event_id, race_id, 'later', 'full', 'test' FROM runsignup_events WHERE event_id = %s",
            self.partner, event_id,
        )  # fmt: skip

    def enter(self, event_id: int, bib: str | None = None, **more: Any) -> int:
        """Enter a registration, of a person of its own unless `more` names one, and return its number."""
        number = next(self._registrations)
        row: Row = {
            "registration_id": number,
            "event_id": event_id,
            "timing_partner_id": self.partner,
            "bib_num": bib,
            "user_id": number,
            "first_name": f"First{number}",
            "last_name": "Quill",
            "address": json.dumps({"city": "Elm", "state": "VT"}),
            **more,
        }
        names = ", ".join(row)
        self.sql(
            f"INSERT INTO runsignup_participants ({names}, race_id, changed_at) SELECT {', '.join(['%s'] * len(row))}, race_id,"
            " clock_timestamp() FROM runsignup_events WHERE event_id = %s",
            *row.values(),
            event_id,
        )
        return number

    def change(self, number: int, **fields: Any) -> None:
        """Change it as a sync does.

        A sync's time is the transaction's. Tests have only one transaction, so here it is the clock's.
        """
        changes = ", ".join(f"{name} = %s" for name in fields)
        self.sql(
            f"UPDATE runsignup_participants SET {changes}, changed_at = clock_timestamp() WHERE registration_id = %s",
            *fields.values(),
            number,
        )

    def build(self, now: dt.datetime = NOW) -> RebuildResult:
        built = start_list_store.rebuild(self.conn, self.partner, now)
        assert self.is_current(now)
        return built

    def is_current(self, now: dt.datetime = NOW) -> bool:
        return start_list_store.is_current(self.conn, self.partner, now)

    def entries(self) -> dict[int, Row]:
        found = self.rows("SELECT * FROM start_list_entries WHERE timing_partner_id = %s", self.partner)
        return {row["registration_id"]: row for row in found}

    def problems(self) -> dict[int, list[str]]:
        """Return the problems of the entrants that have any."""
        return {number: row["problems"] for number, row in self.entries().items() if row["problems"]}

    def figures(self) -> dict[int, Row]:
        found = self.rows("SELECT * FROM start_lists WHERE timing_partner_id = %s", self.partner)
        return {row["event_id"]: row for row in found}

    def contents(self) -> tuple[dict[int, Row], dict[int, Row]]:
        """Return both tables without the times of writing."""
        entries, figures = self.entries(), self.figures()
        for row in entries.values():
            row.pop("changed_at")
        for row in figures.values():
            row.pop("built_at")
        return entries, figures

    def versions(self) -> set[tuple[str, str]]:
        """Return which version of which row is stored: a row that was rewritten, even alike, has another."""
        return {
            (row["ctid"], row["xmin"])
            for table in ("start_lists", "start_list_entries")
            for row in self.rows(f"SELECT '{table}' || ctid AS ctid, xmin::text FROM {table}")
        }

    def expected_problems(self) -> dict[int, set[str]]:
        """Return every entrant's problems, worked out from the tables row by row and pair by pair."""
        events = {row["event_id"]: row for row in self.rows("SELECT * FROM runsignup_events")}
        listed = self.figures().keys()
        held = self.rows("SELECT * FROM runsignup_participants WHERE removed_at IS NULL")
        for row in held:
            row["sent"], row["local"] = ((row[name] or "").strip() or None for name in ("bib_num", "local_bib"))
        for row in held:
            # The bib that a person has in a bundle counts for its events, unless two bundles give different ones.
            of_bundles = {
                other["sent"] or other["local"]
                for other in held
                if other["user_id"] == row["user_id"]
                and row["event_id"] in (events[other["event_id"]]["sub_event_ids"] or ())
            } - {None}
            row["bib"] = row["sent"] or (of_bundles.pop() if len(of_bundles) == 1 else None) or row["local"]
        rows = [row for row in held if row["event_id"] in listed]
        found: dict[int, set[str]] = {}
        for row in rows:
            problems = found.setdefault(row["registration_id"], set())
            event = events[row["event_id"]]
            if row["bib"] is None:
                problems.add("no_bib")
            for other in rows:
                theirs = events[other["event_id"]]
                if other is row or theirs["race_id"] != event["race_id"]:
                    continue
                alike = row["bib"] is not None and row["bib"] == other["bib"]
                if alike and other["event_id"] == row["event_id"]:
                    problems.add("duplicate_bib")
                elif (
                    alike
                    and theirs["start_time"].date() == event["start_time"].date()
                    and other["user_id"] != row["user_id"]
                ):
                    problems.add("bib_in_other_event")
            own = {
                other["event_id"]
                for other in rows
                if other["user_id"] == row["user_id"]
                and events[other["event_id"]]["race_event_days_id"] == event["race_event_days_id"]
            }
            parts = {
                part for event_id in own if events[event_id]["is_bundle"] for part in events[event_id]["sub_event_ids"]
            }
            if len(own - parts) > 1:
                problems.add("in_two_events")
            numbers = [
                int(other["bib"])
                for other in rows
                if other["event_id"] == row["event_id"] and re.fullmatch("[0-9]{1,18}", other["bib"] or "")
            ]
            if re.fullmatch("[0-9]{1,18}", row["bib"] or "") and len(set(numbers)) >= 20:
                low, _, high = statistics.quantiles(sorted(set(numbers)), n=4, method="inclusive")
                bib, width = int(row["bib"]), 1.5 * (high - low)
                lonely = sum(number // 100 == bib // 100 for number in numbers) < 5
                if lonely and not low - width <= bib <= high + width:
                    problems.add("out_of_range")
        return found
