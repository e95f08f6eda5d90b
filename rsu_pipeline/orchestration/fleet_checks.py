"""Checks of the whole fleet, each named after the fact that it checks for all partners.

They query the warehouse and report both sides, with a sample of partition keys and RunSignup ids.
"""

import datetime as dt
import math
from collections.abc import Sequence
from typing import Any

import dagster as dg

from rsu_pipeline import installation
from rsu_pipeline.alerts import rules
from rsu_pipeline.display import show_times_in
from rsu_pipeline.orchestration.assets.fleet_health import fleet_health
from rsu_pipeline.orchestration.failures import expected_errors_as_failures
from rsu_pipeline.orchestration.resources import WarehouseResource
from rsu_pipeline.orchestration.run_config import NO_CONFIG
from rsu_pipeline.sync import clocks, forecast
from rsu_pipeline.sync.session import limit_concurrent_partners
from rsu_pipeline.warehouse import (
    duplicate_partners,
    fleet_facts,
    foreign_writes,
    freshness,
    hub_clocks,
    partner_access,
)

SAMPLE = 20
ROUTINE_RUNS = 2
"""Batch runs at a time: the limit of the lane in dagster.yaml."""
ERROR, WARN = dg.AssetCheckSeverity.ERROR, dg.AssetCheckSeverity.WARN


@dg.asset_check(asset=fleet_health, config_schema=NO_CONFIG)
def every_partner_fresh(warehouse: WarehouseResource) -> dg.AssetCheckResult:
    """Check that every upcoming event was read within twice its interval and ten minutes.

    The check is an error if such an event starts within 24 hours.
    """
    settings = installation.current().settings
    with expected_errors_as_failures(), warehouse.connect("every_partner_fresh") as conn:
        now = clocks.present(conn, settings.sync.max_clock_skew)
        reads = freshness.read_event_reads(conn, now)
    fresh = forecast.measure_freshness(reads, now, settings.cadence)
    stale = [item for item in fresh if item.is_stale]
    return _result(
        not stale,
        ERROR if any(item.tier in ("window", "day") for item in stale) else WARN,
        {
            "partners": len({item.read.partner_id for item in fresh}),
            "partners_stale": len({item.read.partner_id for item in stale}),
            "events_ahead": len(fresh),
            "events_stale": len(stale),
            "minutes_overdue_max": round(max((_minutes(item.overdue) for item in stale), default=0.0), 1),
        },
        [
            {
                "partner": item.read.key,
                "race_id": item.read.race_id,
                "event_id": item.read.event_id,
                "tier": item.tier,
                "read_at": item.read.read_at.isoformat() if item.read.read_at else None,
                "minutes_overdue": round(_minutes(item.overdue), 1),
            }
            for item in stale[:SAMPLE]
        ],
    )


@dg.asset_check(asset=fleet_health, config_schema=NO_CONFIG)
def no_duplicate_registrations(warehouse: WarehouseResource) -> dg.AssetCheckResult:
    """Check that every registration of a partner is one row, and that the unique index which ensures it exists."""
    with expected_errors_as_failures(), warehouse.connect("no_duplicate_registrations") as conn:
        found = fleet_facts.find_duplicates(conn, SAMPLE)
    return _result(
        found.doubled == 0 and found.is_guarded,
        ERROR,
        {
            "rows": found.rows,
            "registrations": found.registrations,
            "registrations_doubled": found.doubled,
            "unique_index": int(found.is_guarded),
        },
        found.sample,
    )


@dg.asset_check(asset=fleet_health, config_schema=NO_CONFIG)
def bib_log_replays(warehouse: WarehouseResource) -> dg.AssetCheckResult:
    """Check that the first bib and the log, replayed in order, give today's bib of every registration.

    A registration without an entry in the log must still have its first bib.
    """
    with expected_errors_as_failures(), warehouse.connect("bib_log_replays") as conn:
        found = fleet_facts.replay_bib_log(conn, SAMPLE)
    return _result(
        found.wrong + found.unlogged == 0,
        ERROR,
        {
            "bib_changes": found.changes,
            "registrations_with_log": found.registrations,
            "registrations_replayed": found.registrations - found.wrong,
            "registrations_wrong": found.wrong,
            "registrations_without_log": found.without_log,
            "registrations_changed_without_log": found.unlogged,
        },
        found.sample,
    )


@dg.asset_check(asset=fleet_health, config_schema=NO_CONFIG)
def budget_is_enough(warehouse: WarehouseResource) -> dg.AssetCheckResult:
    """Check that the calls of every partner's plan in the next hour fit its API key's limit, and that all syncs get their turn.

    The check is an error if routine syncs do not fit, and a warning if only the race-day polls have to be slower than
    RSU_WATCH_INTERVAL.
    """
    settings = installation.current().settings
    with expected_errors_as_failures(), warehouse.connect("budget_is_enough") as conn:
        now = clocks.present(conn, settings.sync.max_clock_skew)
        reads = freshness.read_event_reads(conn, now)
    concurrent_syncs = ROUTINE_RUNS * limit_concurrent_partners(settings.budget)
    found = forecast.forecast_budget(forecast.forecast_calls(reads, now, settings), settings, concurrent_syncs)
    return _result(
        found.is_enough,
        ERROR if found.over_routine_limit or not found.is_flight_enough else WARN,
        {
            "calls_needed_max": math.ceil(found.most),
            "calls_limit": found.limit,
            "partners": len(found.needs),
            "partners_short": len(found.over_limit),
            "visits_of_fleet": math.ceil(found.routine),
            "calls_that_fit_in_flight": found.flight_limit or 0,
        },
        [
            {"partner": need.key, "calls_for_visits": math.ceil(need.routine), "calls_for_watch": math.ceil(need.watch)}
            for need in found.over_limit[:SAMPLE]
        ],
    )


@dg.asset_check(asset=fleet_health, config_schema=NO_CONFIG)
def credentials_work(warehouse: WarehouseResource) -> dg.AssetCheckResult:
    """Check that RunSignup rejects no partner's key and secret, and that none is incomplete.

    Partners without a credential are not synced and do not count.
    """
    with expected_errors_as_failures(), warehouse.connect("credentials_work") as conn:
        partners = freshness.read_partner_health(conn, dt.datetime.now(dt.UTC))
    counts = {
        state: sum(item.credential == state for item in partners)
        for state in ("works", "unverified", "untried", "refused", "incomplete", "none", "off")
    }
    wrong = [item for item in partners if item.credential in ("refused", "incomplete")]
    return _result(
        not wrong,
        ERROR if counts["refused"] else WARN,
        {"partners": len(partners), **{f"credentials_{state}": count for state, count in counts.items()}},
        [{"partner": item.key or str(item.partner_id), "credential": item.credential} for item in wrong[:SAMPLE]],
    )


@dg.asset_check(asset=fleet_health, config_schema=NO_CONFIG)
def no_partner_lost_access(warehouse: WarehouseResource) -> dg.AssetCheckResult:
    """Check that no partner lost access to an upcoming race, or to all its races.

    The credential of such a partner works. A partner that never had a race does not count.
    """
    with expected_errors_as_failures(), warehouse.connect("no_partner_lost_access") as conn:
        found = partner_access.read_access(conn, dt.datetime.now(dt.UTC))
    wrong = [item for item in found.values() if item.has_lost]
    return _result(
        not wrong,
        ERROR,
        {
            "partners": len(found),
            "partners_without_races_any_more": sum(item.state == "no races any more" for item in wrong),
            "partners_without_races_yet": sum(item.state == "no races yet" for item in found.values()),
            "upcoming_races_lost": sum(len(item.lost_upcoming) for item in wrong),
        },
        [{"partner": item.key or str(item.partner_id), "sentence": str(item.sentence)} for item in wrong[:SAMPLE]],
    )


@dg.asset_check(asset=fleet_health, config_schema=NO_CONFIG)
def events_equal_runsignup(warehouse: WarehouseResource) -> dg.AssetCheckResult:
    """Check that each partner's upcoming events store what their last full read received: as many rows, with the same content.

    Events with quarantined rows or removals pending confirmation are left out. `no_rows_held_back` and an alert report those.
    """
    with expected_errors_as_failures(), warehouse.connect("events_equal_runsignup") as conn:
        found = fleet_facts.read_equality(conn, SAMPLE)
    return _result(
        found.unequal == 0,
        ERROR,
        {
            "events_compared": found.events,
            "rows_sent": found.rows_sent,
            "rows_stored": found.rows_stored,
            "events_with_rows_held_back": found.explained,
            "events_unequal": found.unequal,
        },
        found.sample,
    )


@dg.asset_check(asset=fleet_health, config_schema=NO_CONFIG)
def no_rows_held_back(warehouse: WarehouseResource) -> dg.AssetCheckResult:
    """Check that no registration of any partner is quarantined. Those stored without a field that did not parse are counted."""
    with expected_errors_as_failures(), warehouse.connect("no_rows_held_back") as conn:
        found = fleet_facts.read_unstored_rows(conn, SAMPLE)
    return _result(
        found.held_back == 0,
        ERROR,
        {"rows_held_back": found.held_back, "rows_with_faults": found.with_faults, "partners": found.partners},
        found.sample,
    )


@dg.asset_check(asset=fleet_health, config_schema=NO_CONFIG)
def no_shared_api_keys(warehouse: WarehouseResource) -> dg.AssetCheckResult:
    """Check that no two enabled partners have the same API key, unless they were entered with --shared-key.

    Such partners share the calls of the key, and registrations are stored for each of them.
    """
    with expected_errors_as_failures(), warehouse.connect("no_shared_api_keys") as conn:
        unintended = duplicate_partners.find_shared_api_keys(conn, intended=False)
        shared = duplicate_partners.find_shared_api_keys(conn, intended=True)
    return _result(
        not unintended,
        WARN,
        {"api_keys_shared": len(shared), "api_keys_shared_unintended": len(unintended)},
        [{"partners": [item.label for item in group]} for group in unintended[:SAMPLE]],
    )


@dg.asset_check(asset=fleet_health, config_schema=NO_CONFIG)
def no_similar_partner_names(warehouse: WarehouseResource) -> dg.AssetCheckResult:
    """Check that no two enabled partners have names that differ only in case, blanks or the form of their characters."""
    with expected_errors_as_failures(), warehouse.connect("no_similar_partner_names") as conn:
        similar = duplicate_partners.find_similar_names(conn)
    return _result(
        not similar,
        WARN,
        {"names_similar": len(similar), "partners": sum(len(group) for group in similar)},
        [{"partners": [item.label for item in group]} for group in similar[:SAMPLE]],
    )


@dg.asset_check(asset=fleet_health, config_schema=NO_CONFIG)
def no_foreign_writes(warehouse: WarehouseResource) -> dg.AssetCheckResult:
    """Check that no other program writes to races, events or registrations, and that every registration has a partner's race.

    A write counts for a day, and until every upcoming event that it touched has been read in full again.
    """
    with expected_errors_as_failures(), warehouse.connect("no_foreign_writes") as conn:
        found = foreign_writes.find_foreign_writes(conn, dt.datetime.now(dt.UTC))
    return _result(
        not found.writes and not found.rows_of_no_partner,
        ERROR,
        {
            "foreign_writers": len({(item.login, item.program, item.address) for item in found.writes}),
            "foreign_transactions": sum(item.transactions for item in found.writes),
            "events_to_read_again": found.events_waiting,
            "registrations_of_no_partners_race": found.rows_of_no_partner,
        },
        [
            {
                "table": item.table_name,
                "operation": item.operation,
                "role": item.login,
                "program": item.program,
                "address": item.address,
                "transactions": item.transactions,
                "first_at": item.first_at.isoformat(),
                "last_at": item.last_at.isoformat(),
            }
            for item in found.writes[:SAMPLE]
        ],
    )


@dg.asset_check(asset=fleet_health, config_schema=NO_CONFIG)
def clocks_agree(warehouse: WarehouseResource) -> dg.AssetCheckResult:
    """Check that the clocks of every hub, of the database and of RunSignup differ by no more than RSU_MAX_CLOCK_SKEW."""
    max_skew = installation.current().settings.sync.max_clock_skew
    with expected_errors_as_failures(), warehouse.connect("clocks_agree") as conn:
        found = clocks.find_disagreements(conn, max_skew)
        hubs = hub_clocks.read_recent_clocks(conn, clocks.STORED_FOR)
    ahead = [abs(item.database_seconds) for item in hubs]
    ahead += [abs(item.runsignup_seconds) for item in hubs if item.runsignup_seconds is not None]
    return _result(
        not found,
        ERROR,
        {
            "hubs": len(hubs),
            "clocks_wrong": len(found),
            "hubs_without_date_of_runsignup": sum(item.runsignup_seconds is None for item in hubs),
            "seconds_difference_max": round(max(ahead, default=0.0), 1),
            "seconds_allowed": max_skew,
        },
        [{"machine": item.machine, "sentence": item.sentence} for item in found[:SAMPLE]],
    )


@dg.asset_check(asset=fleet_health, config_schema=NO_CONFIG)
def nothing_stands_still(warehouse: WarehouseResource) -> dg.AssetCheckResult:
    """Check that no sensor, schedule, run, watch, sync, backfill or notifier has stopped or fails.

    `rsu health` and the alerts report the same problems.
    """
    settings = installation.current().settings
    with expected_errors_as_failures(), warehouse.connect("nothing_stands_still") as conn:
        found = rules.find_standstills(conn, settings, clocks.utc_now())
    return _result(
        not found,
        ERROR,
        {"standstills": len(found)},
        [
            {
                "kind": item.kind,
                "partner": item.partner,
                "sentence": show_times_in(settings.timezone, item.sentence),
            }
            for item in found[:SAMPLE]
        ],
    )


def _result(
    passed: bool, severity: dg.AssetCheckSeverity, numbers: dict[str, int | float], sample: Sequence[dict[str, Any]]
) -> dg.AssetCheckResult:
    return dg.AssetCheckResult(
        passed=passed, severity=severity, metadata={**numbers, "sample": dg.MetadataValue.json(list(sample))}
    )


def _minutes(span: dt.timedelta) -> float:
    return span.total_seconds() / 60


FLEET_CHECKS = (
    every_partner_fresh,
    no_duplicate_registrations,
    bib_log_replays,
    budget_is_enough,
    credentials_work,
    no_partner_lost_access,
    events_equal_runsignup,
    no_rows_held_back,
    no_shared_api_keys,
    no_similar_partner_names,
    no_foreign_writes,
    clocks_agree,
    nothing_stands_still,
)

check_fleet = dg.define_asset_job(
    "check_fleet",
    selection=dg.AssetSelection.assets(fleet_health),
    description="Evaluates the checks of the whole fleet. Makes no call to RunSignup.",
)

fleet_check = dg.ScheduleDefinition(
    name="fleet_check",
    job=check_fleet,
    cron_schedule="*/30 * * * *",
    execution_timezone="UTC",
    default_status=dg.DefaultScheduleStatus.RUNNING,
    description="Every 30 min: the health of the whole fleet and its checks.",
)
