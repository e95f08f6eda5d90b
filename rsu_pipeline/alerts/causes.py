"""What is wrong now. Sentences name partition keys, races and events by number: no personal data, no secret."""

import datetime as dt
from collections.abc import Iterator
from urllib.parse import urlsplit

from psycopg2.extensions import connection as Connection

from rsu_pipeline.alerts import automation
from rsu_pipeline.setting_values import LOOPBACK_HOSTS
from rsu_pipeline.settings import Settings
from rsu_pipeline.sync import clocks, watch_pace
from rsu_pipeline.sync.race_day import longest_silence, unread_since
from rsu_pipeline.warehouse import alerts, budget, duplicate_partners, fleet, foreign_writes
from rsu_pipeline.warehouse.alerts import Problem

STALE_AFTER = dt.timedelta(hours=8)
STALE_BEFORE_START = dt.timedelta(minutes=45)
"""Of a race that starts within 24 h."""
VANISHED_FOR = dt.timedelta(hours=1)
"""How long an event may lack in its race's detail without a second answer about it."""
BUDGET_LEFT = 0.1
"""The share of an hour's routine calls below which they are short."""
HISTORY_TRIES = 3
REGISTRATION_FROM = dt.date(2026, 12, 1)
"""From when on a missing caller registration is told; RunSignup asks for it from 2027-01-01."""

TITLES = {
    "run_failed": "a run failed",
    "run_stuck": "a run hangs",
    "credential_rejected": "RunSignup refuses a credential",
    "access_denied": "RunSignup denies access to a race",
    "removals_held_back": "a mass removal waits to be confirmed",
    "partner_stale": "a partner is not read",
    "budget_short": "calls are short",
    "registration_missing": "the caller registration is missing",
    "duplicate_bibs": "a bib is given twice",
    "dead_watch": "a race in its window is not watched",
    automation.KIND: "a sensor, schedule or the queue stands still",
    "history_failing": "past editions cannot be read",
    "api_key_shared": "two partners have one API key",
    "foreign_writes": "another program writes to the tables",
    "clock_skew": "clocks differ",
}
"""Every kind there is, in the order they are told in, and how its message is headed."""


def find(conn: Connection, settings: Settings, now: dt.datetime) -> list[Problem]:
    """Everything that the hub's database and the settings tell. What Dagster knows of its runs is not in it."""
    now, _ = clocks.corrected(now, conn, settings.sync.max_clock_skew)
    return [
        *_rejected(conn),
        *_access_denied(conn, now),
        *_held_back(conn, now),
        *_stale(conn, settings, now),
        *_budget_short(conn, settings),
        *registration_missing(settings, now),
        *_duplicate_bibs(conn, now),
        *dead_watch(conn, settings, now),
        *automation.find(conn, now),
        *_history_failing(conn),
        *_api_key_shared(conn),
        *_foreign_writes(conn, now),
        *_clock_skew(conn, settings),
    ]


def _name(partner_id: int, key: str | None) -> str:
    return key or f"partner {partner_id}"


def _rejected(conn: Connection) -> Iterator[Problem]:
    for partner_id, key in alerts.rejected(conn):
        yield Problem(
            "credential_rejected",
            str(partner_id),
            key,
            f"{_name(partner_id, key)}: RunSignup refuses the key and secret, nothing is synced.",
        )


def _access_denied(conn: Connection, now: dt.datetime) -> Iterator[Problem]:
    for partner_id, key, race_id, event_id, since, is_unknown in alerts.access_denied(conn, now):
        what = f"race {race_id}" if event_id is None else f"race {race_id}, event {event_id}"
        answer = f"lists {what} and says that there is no such race" if is_unknown else f"denies access to {what}"
        yield Problem(
            "access_denied",
            f"{partner_id}:{race_id}:{event_id or ''}",
            key,
            f"{key}: RunSignup {answer} since {since:%Y-%m-%d %H:%M} UTC. Its registrations are not read."
            " The partner's other races are.",
        )


def _held_back(conn: Connection, now: dt.datetime) -> Iterator[Problem]:
    for partner_id, key, race_id, event_id in alerts.held_back(conn):
        yield Problem(
            "removals_held_back",
            f"{partner_id}:{event_id}",
            key,
            f"{_name(partner_id, key)}: race {race_id}, event {event_id}: a large part of the registrations is gone at"
            " RunSignup; they are kept here until somebody confirms.",
        )
    for partner_id, key, race_id, event_id in alerts.vanished_events(conn, now - VANISHED_FOR):
        yield Problem(
            "removals_held_back",
            f"{partner_id}:{event_id}:vanished",
            key,
            f"{key}: race {race_id}, event {event_id}: the race's detail lacks the event, but nothing else says that it is gone;"
            " its registrations are kept here until RunSignup is clear about it or somebody confirms.",
        )


def _stale(conn: Connection, settings: Settings, now: dt.datetime) -> Iterator[Problem]:
    longest = max(STALE_AFTER, 2 * dt.timedelta(seconds=settings.cadence.later))
    before_start = max(STALE_BEFORE_START, 3 * dt.timedelta(seconds=settings.cadence.day))
    for reading in alerts.readings(conn, now):
        sentence = None
        if reading.near_read_at is not None and now - reading.near_read_at > before_start:
            sentence = (
                f"{reading.key}: race {reading.near_race_id} starts within 24 h and was last read before"
                f" {reading.near_read_at:%Y-%m-%d %H:%M} UTC."
            )
        elif now - reading.last_read_at > longest:
            sentence = f"{reading.key}: no race was read since {reading.last_read_at:%Y-%m-%d %H:%M} UTC."
        if sentence:
            yield Problem("partner_stale", str(reading.partner_id), reading.key, sentence)


def _budget_short(conn: Connection, settings: Settings) -> Iterator[Problem]:
    limit = max(1, int(settings.budget.calls_per_hour * budget.LANES["routine"]))
    for partner_ids, keys, used in alerts.calls_used(conn):
        left = max(0, limit - used)
        if left < BUDGET_LEFT * limit:
            sharing = f", which share one API key: {left}" if len(keys) > 1 else f": {left}"
            yield Problem(
                "budget_short",
                str(partner_ids[0]),
                keys[0],
                f"{' and '.join(keys)}{sharing} of {limit} calls of this hour are left for routine syncs.",
            )


def registration_missing(settings: Settings, now: dt.datetime) -> list[Problem]:
    """Whether RunSignup will soon refuse every call. A local RunSignup asks for no registration."""
    is_local = urlsplit(settings.api.base_url).hostname in LOOPBACK_HOSTS
    if settings.api.registration is not None or is_local or now.astimezone(dt.UTC).date() < REGISTRATION_FROM:
        return []
    return [
        Problem(
            "registration_missing",
            "caller",
            None,
            "RSU_API_REG and RSU_API_REG_SECRET are not set; RunSignup asks every caller for them from 2027-01-01.",
        )
    ]


def _duplicate_bibs(conn: Connection, now: dt.datetime) -> Iterator[Problem]:
    for partner_id, key, race_id, event_id, entrants in alerts.duplicate_bibs(conn, now):
        yield Problem(
            "duplicate_bibs",
            f"{partner_id}:{event_id}",
            key,
            f"{_name(partner_id, key)}: race {race_id}, event {event_id}: {entrants} entrants share a bib with another.",
        )


def dead_watch(conn: Connection, settings: Settings, now: dt.datetime) -> Iterator[Problem]:
    """Races in their window that nobody looks at."""
    races = fleet.races_to_read(conn, now)
    watched = watch_pace.watched(races, now, settings)
    in_window = {(race.partner_id, race.race_id) for race in watched}
    reads = alerts.race_reads(conn) if in_window else {}
    allowed = longest_silence(watched, settings)
    for race in races:
        its = (race.partner_id, race.race_id)
        if its not in in_window or its not in reads:
            continue
        since = unread_since(race.times, reads[its], now)
        if now - since > allowed[race.call_budget_id]:
            yield Problem(
                "dead_watch",
                f"{race.partner_id}:{race.race_id}",
                race.key,
                f"{race.key}: race {race.race_id} is in its window and was not read since {since:%H:%M} UTC.",
            )


def _history_failing(conn: Connection) -> Iterator[Problem]:
    for partner_id, key, race_id, failures in alerts.failing_history(conn, HISTORY_TRIES):
        yield Problem(
            "history_failing",
            f"{partner_id}:{race_id}",
            key,
            f"{_name(partner_id, key)}: past editions of race {race_id} failed {failures} times in a row.",
        )


def _api_key_shared(conn: Connection) -> Iterator[Problem]:
    for group in duplicate_partners.shared_api_keys(conn, intended=False):
        names = " and ".join(item.label for item in group)
        yield Problem(
            "api_key_shared",
            str(group[0].partner_id),
            group[0].partition_key,
            f"{names} have the same API key: they share its calls, and its registrations are stored for each. Enter each"
            " partner's own key with `rsu partners add`, or the same one with --shared-key if that is meant.",
        )


def _foreign_writes(conn: Connection, now: dt.datetime) -> Iterator[Problem]:
    for item in foreign_writes.open_writes(conn, now):
        yield Problem(
            "foreign_writes",
            f"{item.table_name}:{item.operation}:{item.login}:{item.program}:{item.address}",
            None,
            item.sentence(),
        )


def _clock_skew(conn: Connection, settings: Settings) -> Iterator[Problem]:
    for item in clocks.disagreements(conn, settings.sync.max_clock_skew):
        yield Problem("clock_skew", item.machine, None, item.sentence)
