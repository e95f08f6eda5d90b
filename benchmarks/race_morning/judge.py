"""What became of the changes made at RunSignup: when each was committed here, and what is missing."""

import json
import time
from bisect import bisect_right
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from psycopg2.extensions import connection as Connection

from rsu_pipeline.local import embedded
from rsu_pipeline.warehouse import database
from runsignup_sandbox.process import AdminClient

Feed = Literal["bib", "removal"]
_LogRow = tuple[float, int, str | None]
"""Of a row of the bib log: when it was committed, RunSignup's time of the change in whole seconds, the new bib."""


@dataclass(frozen=True)
class Made:
    """A change as it was made: a registration's bib is now `bib`, or the registration is removed.

    `at` is the moment before RunSignup got it, Unix seconds of its clock.
    """

    at: float
    partner: int
    registration_id: int
    feed: Feed
    bib: str | None = None


@dataclass(frozen=True)
class Noticed:
    """A change with `at`, when the row was committed, in the bib log or as removed.

    None when a later change of the registration was made before this one could be seen.
    """

    made: Made
    at: float | None

    @property
    def latency(self) -> float:
        return (self.at or self.made.at) - self.made.at


def server_with_commit_times(folder: Path, binaries: Path | None = None) -> str:
    """Return the URL of an embedded server that keeps each transaction's commit time.

    For the caller to `release` and `destroy`.
    """
    url = embedded.ensure_running(folder, binaries)
    with database.session(url, purpose="simulate") as conn:
        conn.autocommit = True
        with conn.cursor() as cur:
            cur.execute("ALTER SYSTEM SET track_commit_timestamp = on")
    # Takes a restart: the server ends with its last user's lease.
    embedded.release(folder)
    deadline = time.monotonic() + 60
    with suppress(database.DatabaseError):
        while time.monotonic() < deadline:
            database.connect(url, purpose="simulate").close()
            time.sleep(0.1)
    return embedded.ensure_running(folder, binaries)


def noticed(
    conn: Connection, made: Sequence[Made], when: Callable[[float], float] = lambda wall: wall
) -> tuple[list[Noticed], list[Made]]:
    """Return when each change was committed, and those that never were.

    `when` turns the server's real clock into the clock of `Made`.
    """
    log: dict[int, list[_LogRow]] = defaultdict(list)
    with conn.cursor() as cur:
        cur.execute(
            "SELECT registration_id, extract(epoch FROM pg_xact_commit_timestamp(xmin))::float, modified_epoch, new_bib"
            " FROM runsignup_bib_changes ORDER BY bib_change_id"
        )
        for registration_id, wall, epoch, bib in cur.fetchall():
            log[registration_id].append((when(wall), epoch or 0, bib))
        cur.execute(
            "SELECT registration_id, extract(epoch FROM pg_xact_commit_timestamp(xmin))::float"
            " FROM runsignup_participants WHERE removed_at IS NOT NULL"
        )
        removed = {registration_id: when(wall) for registration_id, wall in cur.fetchall()}
    conn.rollback()
    return match(made, log, removed)


def match(
    made: Sequence[Made], log: Mapping[int, Sequence[_LogRow]], removed: Mapping[int, float]
) -> tuple[list[Noticed], list[Made]]:
    """Return the same from the rows of the log and from the moments of removal.

    Rows are in their order, and both are by registration id.
    """
    times: dict[int, list[float]] = defaultdict(list)
    for change in made:
        times[change.registration_id].append(change.at)
    found, missed = [], []
    for change in made:
        if change.feed == "removal":
            at = removed.get(change.registration_id)
        else:
            at = next((row[0] for row in log.get(change.registration_id, ()) if _shows(row, change)), None)
        if at is None and change.at == max(times[change.registration_id]):
            missed.append(change)
        else:
            found.append(Noticed(change, at))
    return found, missed


def _shows(row: _LogRow, change: Made) -> bool:
    """Return whether a row of the log shows this change, or a later one of the same registration.

    RunSignup's times are whole seconds, and its clock may be a little behind ours.
    """
    committed, epoch, bib = row
    second = int(change.at)
    return committed >= change.at and (epoch > second + 1 or (bib == change.bib and epoch >= second - 1))


def differences(conn: Connection, admin: AdminClient, partner: int, partner_id: int) -> list[str]:
    """Return a sentence for each difference of a partner's copy from RunSignup's truth and each break of the bib log."""
    truth = admin.truth(partner)
    with conn.cursor() as cur:
        cur.execute(
            "SELECT registration_id, event_id, rsu_bib(bib_num, team_info), first_bib, removed_reason,"
            " removed_at IS NOT NULL, payload::text FROM runsignup_participants WHERE timing_partner_id = %s",
            (partner_id,),
        )
        held = {row[0]: row[1:] for row in cur.fetchall()}
        cur.execute(
            "SELECT registration_id, old_bib, new_bib FROM runsignup_bib_changes WHERE timing_partner_id = %s"
            " ORDER BY bib_change_id",
            (partner_id,),
        )
        log = cur.fetchall()
    conn.rollback()
    problems = []
    active = {row["registration_id"]: row for row in truth["active"]}
    for registration_id, row in active.items():
        stored = held.get(registration_id)
        if stored is None or stored[4]:
            problems.append(f"registration {registration_id} is not among the active ones")
        elif wrong := _wrong(row, stored):
            problems.append(f"registration {registration_id} differs: {wrong}")
    reasons = {row["registration_id"]: row["removed_reason"] for row in truth["removed"]}
    for registration_id, stored in held.items():
        if not stored[4] and registration_id not in active:
            problems.append(f"registration {registration_id} is gone at RunSignup and active here")
        if stored[4] and stored[3] not in (reasons.get(registration_id), "missing_upstream"):
            problems.append(f"registration {registration_id} is removed as {stored[3]!r}")
    bibs = {registration_id: stored[2] for registration_id, stored in held.items()}
    for registration_id, old, new in log:
        if bibs[registration_id] != old:
            problems.append(f"bib log of {registration_id}: {old!r} follows {bibs[registration_id]!r}")
        bibs[registration_id] = new
    for registration_id, stored in held.items():
        if not stored[4] and bibs[registration_id] != stored[1]:
            problems.append(f"bib log of {registration_id} ends with {bibs[registration_id]!r}, not {stored[1]!r}")
    return problems


def _wrong(row: Mapping[str, Any], stored: Sequence[Any]) -> str:
    """Return how an active registration differs from RunSignup's."""
    event_id, bib, payload = stored[0], stored[1], json.loads(stored[5])
    if event_id != row["event_id"]:
        return "event"
    counts = row["bib_num"] if row["bib_num"] is not None else row.get("team_bib_num")
    if bib != (None if counts is None else str(counts)):
        return "bib"
    theirs = {name: value for name, value in row.items() if not name.startswith("_")}
    return ", ".join(name for name in sorted(theirs.keys() | payload.keys()) if theirs.get(name) != payload.get(name))


def busiest_hour(times: Sequence[float]) -> int:
    """Return the most calls in any 3600 seconds. `times` may be in any order."""
    ordered = sorted(times)
    return max((place - bisect_right(ordered, time - 3600) + 1 for place, time in enumerate(ordered)), default=0)
