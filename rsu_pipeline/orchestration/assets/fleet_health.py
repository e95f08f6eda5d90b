"""The asset with the health of the whole fleet: query, evaluate, report."""

import datetime as dt
import math
import time
from collections.abc import Mapping, Sequence

import dagster as dg

from rsu_pipeline import installation
from rsu_pipeline.alerts import rules
from rsu_pipeline.display import format_time, show_times_in
from rsu_pipeline.orchestration.assets.participant_history import participant_history
from rsu_pipeline.orchestration.assets.synced_assets import KINDS, participants
from rsu_pipeline.orchestration.data_versions import CODE_VERSIONS
from rsu_pipeline.orchestration.failures import expected_errors_as_failures
from rsu_pipeline.orchestration.resources import WarehouseResource
from rsu_pipeline.orchestration.run_config import NO_CONFIG
from rsu_pipeline.orchestration.table_metadata import OPERATORS
from rsu_pipeline.reports import fleet_plots, plots, sparklines
from rsu_pipeline.settings import Settings
from rsu_pipeline.sync import clocks, downtime, forecast
from rsu_pipeline.sync.forecast import Freshness
from rsu_pipeline.warehouse import freshness
from rsu_pipeline.warehouse.freshness import PartnerHealth

ROWS = 50
"""Partners in the table, failing ones first. A run's metadata is kept for a week."""
COLUMNS = (
    *("partner", "credential", "races_ahead", "last_sync", "minutes_overdue", "stalest_event", "failures", "calls"),
    *("registrations", "held_back", "bibs_24h", "bib_seconds_p95", "history"),
)


# In the same group as the others: with several groups the Dagster UI folds them, and its lineage would show no asset.
@dg.asset(
    group_name="runsignup",
    kinds=KINDS,
    owners=[OPERATORS],
    deps=[participants, participant_history],
    code_version=CODE_VERSIONS["fleet_health"],
    tags={"lane": "routine"},
    config_schema=NO_CONFIG,
)
def fleet_health(warehouse: WarehouseResource) -> dg.MaterializeResult[None]:
    """Report the health of all timing partners: freshness, progress, failures and cost.

    Figures, a table of partners and two pictures are in the metadata of each materialization. Its checks name what should
    be true of the whole fleet. It makes no call to RunSignup, stores nothing and shows nobody's name. The same for machines:
    `rsu status --prometheus FILE`.
    """
    began, settings = time.monotonic(), installation.current().settings
    with expected_errors_as_failures(), warehouse.connect("fleet_health") as conn:
        now = clocks.present(conn, settings.sync.max_clock_skew)
        partners, reads = freshness.read_partner_health(conn, now), freshness.read_event_reads(conn, now)
        bibs = freshness.count_bibs_by_hour(conn, now)
        downtimes = downtime.find_downtimes(conn, now, settings.cadence)
        standstills = rules.find_standstills(conn, settings, clocks.utc_now())
    fresh = forecast.measure_freshness(reads, now, settings.cadence)
    budget = forecast.forecast_budget(forecast.forecast_calls(reads, now, settings), settings)
    worst = forecast.find_oldest_reads(fresh)
    pictures = fleet_plots.draw_fleet_plots(forecast.compute_shares(fresh), bibs, now)
    return dg.MaterializeResult(
        metadata={
            **_numbers(partners, fresh, budget, settings),
            "standstills": dg.MetadataValue.int(len(standstills)),
            "standing_still": dg.MetadataValue.text(
                "\n".join(show_times_in(settings.timezone, item.sentence) for item in standstills[:ROWS]) or "Nothing."
            ),
            "hours_not_syncing": dg.MetadataValue.float(max((item.hours for item in downtimes), default=0.0)),
            "downtime": dg.MetadataValue.text(
                "\n".join(downtime.describe(downtimes, settings.timezone)) or "None within three days."
            ),
            **_lines(forecast.compute_shares(fresh), bibs, now),
            "seconds": dg.MetadataValue.float(round(time.monotonic() - began, 3)),
            "by_partner": _table(partners, worst, settings.timezone),
            **{
                title: dg.MetadataValue.md(f"![{title}]({plots.encode_data_uri(png)})")
                for title, png in pictures.items()
            },
        }
    )


def _lines(
    shares: Mapping[str, float], bibs: Sequence[tuple[dt.datetime, int, float | None]], now: dt.datetime
) -> dict[str, dg.MetadataValue]:
    """Return both pictures as a line of bars, which the Dagster UI shows without a click."""
    ordered = sorted(shares.values(), reverse=True)
    late = sum(share > 1 for share in ordered)
    by_hour = {int((now - hour).total_seconds() // 3600): seconds or 0.0 for hour, _, seconds in bibs}
    latencies = [by_hour.get(ago, 0.0) for ago in range(23, -1, -1)]
    slowest = max(latencies)
    return {
        "freshness": dg.MetadataValue.text(
            f"{sparklines.draw_sparkline(ordered[: sparklines.WIDTH])} stalest first: {late} of {len(ordered)} partners are late"
            if ordered
            else "No upcoming event."
        ),
        "bib_latency": dg.MetadataValue.text(
            f"{sparklines.draw_sparkline(latencies)} by hour until now: at most {slowest:.0f} s for 95 % of an hour's bibs"
            if bibs
            else "No bib in the last 24 hours."
        ),
    }


def _numbers(
    partners: Sequence[PartnerHealth], fresh: Sequence[Freshness], budget: forecast.BudgetForecast, settings: Settings
) -> dict[str, dg.MetadataValue]:
    """Return numbers under fixed names, so that plots over time have no gaps."""
    synced = [item for item in partners if item.is_synced]
    stale = [item for item in fresh if item.is_stale]
    seconds = [item.bib_seconds_p95 for item in synced if item.bib_seconds_p95 is not None]
    numbers = {
        "partners": len(synced),
        "partners_stale": len({item.read.partner_id for item in stale}),
        "partners_failing": sum(item.failures > 0 for item in synced),
        "partners_off": sum(item.credential == "off" for item in partners),
        "partners_without_credential": sum(item.credential in ("none", "incomplete") for item in partners),
        "credentials_refused": sum(item.credential == "refused" for item in partners),
        "races_ahead": sum(item.races_ahead for item in synced),
        "events_ahead": len(fresh),
        "events_stale": len(stale),
        "failures": sum(item.failures for item in synced),
        "rows": sum(item.registrations for item in partners),
        "rows_changed_24h": sum(item.changed for item in partners),
        "quarantined": sum(item.held_back for item in synced),
        "rows_with_faults": sum(item.with_faults for item in synced),
        "bibs_24h": sum(item.bibs for item in partners),
        "calls_this_hour": sum({item.call_budget_id: item.calls for item in partners}.values()),
        "calls_this_hour_max": max((item.calls for item in partners), default=0),
        "calls_needed_max": math.ceil(budget.most),
        "calls_limit": settings.budget.calls_per_hour,
        "histories_open": sum(item.history_complete is False for item in synced),
    }
    times = {
        "minutes_overdue_max": _minutes(max((item.overdue for item in stale), default=dt.timedelta(0))),
        "bib_seconds_p95_max": round(max(seconds, default=0.0), 1),
    }
    return {name: dg.MetadataValue.int(number) for name, number in numbers.items()} | {
        name: dg.MetadataValue.float(number) for name, number in times.items()
    }


def _table(partners: Sequence[PartnerHealth], worst: Mapping[int, Freshness], zone: dt.tzinfo) -> dg.TableMetadataValue:
    def trouble(item: PartnerHealth) -> tuple[bool, bool, float]:
        late = worst.get(item.partner_id)
        in_trouble = item.credential == "refused" or bool(item.failures or item.held_back or (late and late.is_stale))
        return (not item.is_synced, not in_trouble, -_minutes(late.overdue) if late else math.inf)

    return dg.MetadataValue.table(
        [
            dg.TableRecord(dict(zip(COLUMNS, _row(item, worst.get(item.partner_id), zone), strict=True)))
            for item in sorted(partners, key=trouble)[:ROWS]
        ],
        schema=dg.TableSchema([dg.TableColumn(name) for name in COLUMNS]),
    )


def _row(item: PartnerHealth, late: Freshness | None, zone: dt.tzinfo) -> tuple[str | int | float, ...]:
    stale = late if late is not None and late.is_stale else None
    history = "" if item.past_events is None else f"{item.past_events_settled} of {item.past_events} events"
    return (
        item.key or str(item.partner_id),
        item.credential,
        item.races_ahead,
        format_time(item.last_sync, zone) if item.last_sync else "",
        _minutes(stale.overdue) if stale else 0.0,
        stale.read.event_id if stale else "",
        item.failures,
        item.calls,
        item.registrations,
        item.held_back,
        item.bibs,
        "" if item.bib_seconds_p95 is None else round(item.bib_seconds_p95, 1),
        "complete" if item.history_complete else history,
    )


def _minutes(span: dt.timedelta) -> float:
    return round(span.total_seconds() / 60, 1)
