"""Alert rules: find the open problems. Sentences name partition keys, races and events by number, never people or secrets."""

import datetime as dt
from collections.abc import Iterator
from urllib.parse import urlsplit

from psycopg2.extensions import connection as Connection

from rsu_pipeline.alerts import (
    alert_store,
    automation_rules,
    failing_notifiers,
    rule_queries,
    run_rules,
    stale_rules,
    webhook_rules,
)
from rsu_pipeline.alerts.alert_store import Problem
from rsu_pipeline.alerts.consequences import RECOVERY, drop_consequences
from rsu_pipeline.display import counted, format_utc, sanitize_for_display
from rsu_pipeline.setting_values import LOOPBACK_HOSTS
from rsu_pipeline.settings import Settings
from rsu_pipeline.sync import clocks, failing_watch, watch_pace
from rsu_pipeline.sync.race_day_board import longest_silence, unread_since
from rsu_pipeline.warehouse import (
    backfill_state,
    call_ledger,
    credentials,
    dagster_runs,
    duplicate_partners,
    fleet,
    foreign_writes,
    partner_access,
)
from rsu_pipeline.warehouse.automation import has_dagster
from rsu_pipeline.warehouse.failed_polls import FailedPoll

VANISHED_FOR = dt.timedelta(hours=1)
"""How long an event may be missing from its race's detail without a second answer that confirms it."""
BUDGET_LEFT = 0.1
"""The alert opens below this share of the hour's routine calls."""
HISTORY_TRIES = 3
REGISTRATION_FROM = dt.date(2026, 12, 1)
"""From this day on a missing caller registration is an alert. RunSignup requires it from 2027-01-01."""

MAX_BIB_CHARS = 20
NOT_BEGUN_FOR = dt.timedelta(seconds=80)
"""How long a first sync or a slice of a backfill may be due without a run. The sensor that launches it ticks every minute."""
SERVICE_KIND = "service_down"

TITLES = {
    SERVICE_KIND: "a hub service is down",
    automation_rules.DAEMON_KIND: "the Dagster daemon is down",
    "run_failed": "a run failed",
    "run_stuck": "a run hangs",
    "credential_rejected": "RunSignup rejects a credential",
    "access_denied": "RunSignup denies access to a race",
    "access_lost": "a partner lost access to races",
    "removals_held_back": "removals are pending confirmation",
    "partner_stale": "a partner is not being synced",
    "never_synced": "a partner was never synced",
    "budget_short": "the call budget is nearly used up",
    "registration_missing": "the caller registration is missing",
    "duplicate_bibs": "a bib is assigned twice",
    "bibs_left": "a bib given here was lost by a transfer",
    "dead_watch": "a race in its window is not watched",
    "polls_failing": "polls of a race in its window fail",
    automation_rules.KIND: "a sensor, a schedule or the queue has stopped",
    "history_failing": "past editions cannot be read",
    "backfill_stopped": "a backfill has stopped",
    "api_key_shared": "two partners share an API key",
    "foreign_writes": "another program writes to the tables",
    "clock_skew": "clocks disagree",
    "notifier_failing": "alerts cannot be sent",
    **webhook_rules.TITLES,
}
"""The title of every kind of alert, in the order of notification."""
HUB_KINDS = frozenset(TITLES) - {SERVICE_KIND}
"""Kinds that the rules of this module find. Kinds found from outside are in cli/watchdog.py."""
HEALTH_CHECKS = {
    automation_rules.DAEMON_KIND: "daemon",
    automation_rules.KIND: "automation",
    "dead_watch": "watch",
    "polls_failing": "watch",
    "foreign_writes": "writes",
    "clock_skew": "clock",
    **dict.fromkeys(webhook_rules.TITLES, "delivery"),
    **dict.fromkeys(
        ("run_failed", "run_stuck", "credential_rejected", "access_denied", "access_lost", "partner_stale", "never_synced",
         "budget_short", "history_failing", "backfill_stopped", "notifier_failing"),
        "syncs",
    ),
}  # fmt: skip
"""The check of `rsu health` that reports each kind of problem. Kinds that stop nothing are left out."""


def find_problems(conn: Connection, settings: Settings, hub_now: dt.datetime) -> list[Problem]:
    """Return every open problem that the hub's database and the settings show, without those that follow from another problem.

    Args:
        conn: a session at the database. A transaction is left open.
        settings: the installation's settings.
        hub_now: the present by this machine's clock, as Dagster's stamps are. All else uses the believed clocks.
    """
    now, _ = clocks.corrected(hub_now, conn, settings.sync.max_clock_skew)
    found = [
        *_rejected(conn),
        *_access_denied(conn, now),
        *_access_lost(conn, now),
        *_held_back(conn, now),
        *stale_rules.find_stale_partners(conn, settings, now),
        *_budget_short(conn, settings),
        *check_registration(settings, now),
        *_duplicate_bibs(conn, now),
        *_left_bibs(conn, now),
        *find_unread_races(conn, settings, now),
        *_history_failing(conn),
        *_api_key_shared(conn),
        *_foreign_writes(conn, now),
        *_clock_skew(conn, settings),
        *_notifier_failing(conn),
        *webhook_rules.find_problems_of_delivery(conn, has_files=settings.start_lists.folder is not None),
    ]
    if has_dagster(conn):
        found += [
            *run_rules.find_run_problems(conn, hub_now),
            *automation_rules.find_stopped_automation(conn, hub_now),
            *_never_synced(conn, now),
            *_backfill_stopped(conn, now, hub_now),
        ]
    return drop_consequences(found, rule_queries.find_recovering_partners(conn, hub_now - RECOVERY))


def find_standstills(conn: Connection, settings: Settings, hub_now: dt.datetime) -> list[Problem]:
    """Return the problems that stop or fail something: the list of `rsu health` and of the asset fleet_health."""
    return [problem for problem in find_problems(conn, settings, hub_now) if problem.kind in HEALTH_CHECKS]


def _name(partner_id: int, key: str | None) -> str:
    return key or f"partner {partner_id}"


def _rejected(conn: Connection) -> Iterator[Problem]:
    for partner_id, key, since in rule_queries.read_rejected_credentials(conn):
        yield Problem(
            "credential_rejected",
            str(partner_id),
            key,
            f"{_name(partner_id, key)}: RunSignup has rejected the key and secret since {format_utc(since)}. Nothing is synced."
            " Enter valid ones with `rsu partners add`.",
        )


def _access_denied(conn: Connection, now: dt.datetime) -> Iterator[Problem]:
    for partner_id, key, race_id, event_id, since, is_unknown in rule_queries.read_denied_access(conn, now):
        what = f"race {race_id}" if event_id is None else f"race {race_id}, event {event_id}"
        answer = f"lists {what} but answers that it does not exist" if is_unknown else f"denies access to {what}"
        yield Problem(
            "access_denied",
            f"{partner_id}:{race_id}:{event_id or ''}",
            key,
            f"{key}: RunSignup {answer} since {format_utc(since)}. Its registrations are not read. The partner's other"
            " races are. Ask the partner to allow its key there. Access is tried again automatically.",
        )


def _access_lost(conn: Connection, now: dt.datetime) -> Iterator[Problem]:
    for item in partner_access.read_access(conn, now).values():
        if item.has_lost:
            yield Problem(
                "access_lost", str(item.partner_id), item.key, f"{_name(item.partner_id, item.key)}: {item.sentence}"
            )


def _held_back(conn: Connection, now: dt.datetime) -> Iterator[Problem]:
    for partner_id, key, race_id, event_id in rule_queries.read_pending_removals(conn):
        yield Problem(
            "removals_held_back",
            f"{partner_id}:{event_id}",
            key,
            f"{_name(partner_id, key)}: race {race_id}, event {event_id}: a large share of the registrations is gone at"
            " RunSignup. They are kept here until an operator confirms the removals.",
        )
    for partner_id, key, race_id, event_id in rule_queries.read_vanished_events(conn, now - VANISHED_FOR):
        yield Problem(
            "removals_held_back",
            f"{partner_id}:{event_id}:vanished",
            key,
            f"{key}: race {race_id}, event {event_id}: the race's detail no longer has the event, and no second answer confirms"
            " that it was removed. Its registrations are kept here until RunSignup confirms it or an operator does.",
        )


def _budget_short(conn: Connection, settings: Settings) -> Iterator[Problem]:
    limit = max(1, int(settings.budget.calls_per_hour * call_ledger.LANES["routine"]))
    for partner_ids, keys, used in rule_queries.read_calls_used(conn):
        left = max(0, limit - used)
        if left < BUDGET_LEFT * limit:
            sharing = f", which share one API key: {left}" if len(keys) > 1 else f": {left}"
            yield Problem(
                "budget_short",
                str(partner_ids[0]),
                keys[0],
                f"{' and '.join(keys)}{sharing} of {limit} calls of this hour are left for routine syncs. More become free"
                " within the hour. docs/alerts.md explains how to find out who calls.",
            )


def check_registration(settings: Settings, now: dt.datetime) -> list[Problem]:
    """Return a problem if RunSignup will soon reject every call. A local RunSignup requires no registration."""
    is_local = urlsplit(settings.api.base_url).hostname in LOOPBACK_HOSTS
    if settings.api.registration is not None or is_local or now.astimezone(dt.UTC).date() < REGISTRATION_FROM:
        return []
    return [
        Problem(
            "registration_missing",
            "caller",
            None,
            "RSU_API_REG and RSU_API_REG_SECRET are not set. RunSignup requires them from every caller from 2027-01-01.",
        )
    ]


def _duplicate_bibs(conn: Connection, now: dt.datetime) -> Iterator[Problem]:
    for partner_id, key, race_id, event_id, entrants in rule_queries.read_duplicate_bibs(conn, now):
        yield Problem(
            "duplicate_bibs",
            f"{partner_id}:{event_id}",
            key,
            f"{_name(partner_id, key)}: race {race_id}, event {event_id}: {entrants} entrants share a bib with another entrant.",
        )


def _left_bibs(conn: Connection, now: dt.datetime) -> Iterator[Problem]:
    for partner_id, key, race_id, event_id, registration, bib, entrants in rule_queries.read_left_bibs(conn, now):
        yield Problem(
            "bibs_left",
            f"{partner_id}:{event_id}",
            key,
            f"{_name(partner_id, key)}: race {race_id}, event {event_id}: {counted(entrants, 'entrant')} without a bib had one"
            " that was given here, before a transfer made a new registration. If it is still worn, run `rsu bibs give"
            f" {registration} {sanitize_for_display(bib, MAX_BIB_CHARS)} --partner {partner_id}`. The others are in `rsu"
            f" start-list {event_id} --problems`.",
        )


def find_unread_races(conn: Connection, settings: Settings, now: dt.datetime) -> Iterator[Problem]:
    """Yield a problem for each race in its window that is not read: nothing polls it, or its polls fail."""
    races = fleet.select_races_to_read(conn, now)
    watched = watch_pace.select_watched_races(races, now, settings)
    in_window = {(race.partner_id, race.race_id) for race in watched}
    reads = rule_queries.read_race_read_times(conn) if in_window else {}
    allowed = longest_silence(watched, settings)
    late = {}
    for race in races:
        its = (race.partner_id, race.race_id)
        if its in in_window and its in reads:
            since = unread_since(race.times, reads[its], now)
            if now - since > allowed[race.call_budget_id]:
                late[its] = race, since
    budgets = {its: race.call_budget_id for its, (race, _) in late.items()}
    failing = failing_watch.read_failing_polls(conn, budgets, allowed, now, settings)
    for its, (race, since) in late.items():
        yield _unread(race, since, failing.get(its))


def _unread(race: fleet.FleetRace, since: dt.datetime, failed_poll: FailedPoll | None) -> Problem:
    subject = f"{race.partner_id}:{race.race_id}"
    if failed_poll is not None:
        sentence = failing_watch.describe_failing_poll(failed_poll, since)
        return Problem(
            "polls_failing",
            subject,
            race.key,
            f"{race.key}: {sentence}.",
            races=(race.race_id,),
            is_at_runsignup=failing_watch.is_at_runsignup(failed_poll),
        )
    return Problem(
        "dead_watch",
        subject,
        race.key,
        f"{race.key}: race {race.race_id} is in its window and has not been read since {format_utc(since)}. Run"
        f" `rsu sync --partner {race.partner_id} --race {race.race_id}`, and check job watch in the Dagster UI.",
    )


def _history_failing(conn: Connection) -> Iterator[Problem]:
    for partner_id, key, race_id, failures in rule_queries.read_failing_backfills(conn, HISTORY_TRIES):
        yield Problem(
            "history_failing",
            f"{partner_id}:{race_id}",
            key,
            f"{_name(partner_id, key)}: past editions of race {race_id} failed {failures} times in a row. They are"
            " retried automatically. `rsu status` shows the error.",
        )


def _api_key_shared(conn: Connection) -> Iterator[Problem]:
    for group in duplicate_partners.find_shared_api_keys(conn, intended=False):
        names = " and ".join(item.label for item in group)
        yield Problem(
            "api_key_shared",
            str(group[0].partner_id),
            group[0].partition_key,
            f"{names} have the same API key: they share its calls, and its registrations are stored for each. Enter each"
            " partner's own key with `rsu partners add`, or the same key with --shared-key if that is intended.",
        )


def _foreign_writes(conn: Connection, now: dt.datetime) -> Iterator[Problem]:
    for item in foreign_writes.read_open_writes(conn, now):
        yield Problem(
            "foreign_writes",
            f"{item.table_name}:{item.operation}:{item.login}:{item.program}:{item.address}",
            None,
            item.sentence(),
        )


def _clock_skew(conn: Connection, settings: Settings) -> Iterator[Problem]:
    for item in clocks.find_disagreements(conn, settings.sync.max_clock_skew):
        yield Problem("clock_skew", item.machine, None, item.sentence)


def _never_synced(conn: Connection, now: dt.datetime) -> Iterator[Problem]:
    waiting = {
        partner.key or str(partner.partner_id): partner
        for partner in credentials.list_partners_awaiting_first_sync(conn)
        if partner.entered_at is not None and now - partner.entered_at > NOT_BEGUN_FOR
    }
    for key in dagster_runs.find_partners_without_run(conn, list(waiting), in_batches=True) if waiting else []:
        partner = waiting[key]
        if partner.is_active and partner.entered_at is not None:
            yield Problem(
                "never_synced",
                str(partner.partner_id),
                partner.key,
                f"{key}: nothing has been synced since the credential was entered at {format_utc(partner.entered_at)}, and no run"
                f" of it is queued. Run `rsu sync --partner {partner.partner_id}`, which reports the cause.",
            )


def _backfill_stopped(conn: Connection, now: dt.datetime, hub_now: dt.datetime) -> Iterator[Problem]:
    """Yield a problem for each slice that was not requested in time. While the queue is full of slices, the others wait."""
    due = backfill_state.read_due_requests(conn, now)
    late = {key: since for key, (_, since) in due.items() if now - since > NOT_BEGUN_FOR}
    waiting = dagster_runs.find_partners_without_run(conn, list(late), in_batches=False) if late else []
    if waiting and (
        dagster_runs.count_slices_queued_since(conn, hub_now - NOT_BEGUN_FOR) >= backfill_state.MAX_QUEUED_SLICES
    ):
        return
    for key in waiting:
        yield Problem(
            "backfill_stopped",
            str(due[key][0]),
            key,
            f"{key}: the next slice of its backfill has been due since {format_utc(late[key])}, and no run of it is queued. Run"
            f" `rsu backfill --partner {due[key][0]}`, or `rsu backfill --cancel` if it is not wanted.",
        )


def _notifier_failing(conn: Connection) -> Iterator[Problem]:
    since = alert_store.read_unsent_since(conn)
    if since is not None:
        yield Problem(
            "notifier_failing",
            "all",
            None,
            f"No notifier of RSU_ALERT_URLS has accepted a message since {format_utc(since)}. `rsu alerts list` shows the alerts"
            " without a notification. Correct the addresses, then run `rsu alerts test`.",
        )
        return
    for notifier in failing_notifiers.read_all(conn):
        if notifier.tries > failing_notifiers.MAX_TRIES_UNREPORTED:
            yield Problem(
                "notifier_failing",
                f"notifier {notifier.position}",
                None,
                f"Notifier {notifier.position} of RSU_ALERT_URLS ({notifier.scheme}) has accepted no message since"
                f" {format_utc(notifier.failing_since)}. Others do. Correct its address. It is tried again every five minutes.",
            )
