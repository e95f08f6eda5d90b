"""The hub's figures in Prometheus' text format, for `rsu status --prometheus`. Labels are partition keys and nothing else."""

import datetime as dt
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import click
from psycopg2.extensions import connection as Connection

from rsu_pipeline.cli.output_files import find_replaceable_file
from rsu_pipeline.settings import Settings
from rsu_pipeline.sync import forecast
from rsu_pipeline.warehouse import freshness
from rsu_pipeline.warehouse.freshness import PartnerHealth

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry

OF_A_PARTNER: tuple[tuple[str, str, Callable[[PartnerHealth], float | None]], ...] = (
    ("last_sync_timestamp_seconds", "When a race was last read.", lambda p: _timestamp(p.last_sync)),
    ("credential_refused", "1 if RunSignup rejects key and secret.", lambda p: p.credential == "refused"),
    ("races_ahead", "Races with upcoming events.", lambda p: p.races_ahead),
    ("events_ahead", "Upcoming events.", lambda p: p.events_ahead),
    ("open_failures", "Races, listings and past editions whose last attempt failed.", lambda p: p.failures),
    (
        "calls_last_hour",
        "Calls in the last 60 minutes with its API key, by all partners that share it.",
        lambda p: p.calls,
    ),
    ("registrations", "Active registrations stored.", lambda p: p.registrations),
    ("rows_changed_24h", "Registrations written in the last 24 hours.", lambda p: p.changed),
    ("rows_held_back", "Quarantined registrations, which are not stored.", lambda p: p.held_back),
    ("rows_with_faults", "Registrations stored without a field that did not parse.", lambda p: p.with_faults),
    ("bib_changes_24h", "Bibs set, changed or cleared in the last 24 hours.", lambda p: p.bibs),
    ("bib_detection_p95_seconds", "Time within which 95 % of them were stored.", lambda p: p.bib_seconds_p95),
    ("bib_detection_max_seconds", "Time within which the slowest of them was stored.", lambda p: p.bib_seconds_max),
    ("past_events", "Past events requested.", lambda p: p.past_events),
    ("past_events_settled", "Past events read, or no longer available.", lambda p: p.past_events_settled),
)
PREFIX = "rsu_partner_"
PUBLIC_MODE = 0o644
"""File mode: Prometheus' node exporter reads it as another user, and it contains only numbers and partition keys."""


def _timestamp(moment: dt.datetime | None) -> float | None:
    return None if moment is None else moment.timestamp()


def build_registry(conn: Connection, settings: Settings, now: dt.datetime) -> "CollectorRegistry":
    """Return every figure as a gauge, read now. A figure that a partner does not have is left out."""
    from prometheus_client import CollectorRegistry, Gauge

    found = CollectorRegistry()
    everybody, reads = freshness.read_partner_health(conn, now), freshness.read_event_reads(conn, now)
    partners = [item for item in everybody if item.is_synced]
    fresh = forecast.measure_freshness(reads, now, settings.cadence)
    budget = forecast.forecast_budget(forecast.forecast_calls(reads, now, settings), settings)

    def of_fleet(name: str, help_: str, value: float) -> None:
        Gauge(f"rsu_{name}", help_, registry=found).set(value)

    of_fleet("status_timestamp_seconds", "When these figures were read.", now.timestamp())
    of_fleet("partners", "Timing partners that are synced.", len(partners))
    of_fleet("calls_per_hour_limit", "Calls per hour that each API key may make.", budget.limit)
    of_fleet("partners_short_of_calls", "Partners whose API key needs more calls than that.", len(budget.over_limit))
    for name, help_, value_of in OF_A_PARTNER:
        gauge = Gauge(f"{PREFIX}{name}", help_, ["partner"], registry=found)
        for item in partners:
            if (value := value_of(item)) is not None:
                gauge.labels(item.key).set(value)
    keys = [item.key for item in partners]
    oldest = Gauge(f"{PREFIX}oldest_read_age_seconds", "Age of its oldest read.", ["partner"], registry=found)
    overdue = Gauge(
        f"{PREFIX}overdue_seconds", "How long its most overdue event is overdue.", ["partner"], registry=found
    )
    stale = Gauge(f"{PREFIX}events_stale", "Events not read in time.", ["partner"], registry=found)
    needed = Gauge(f"{PREFIX}calls_needed_next_hour", "Calls its plan needs, estimated.", ["partner"], registry=found)
    for key in keys:
        stale.labels(key).set(0)
        overdue.labels(key).set(0)
    ages: dict[str, float] = {}
    for one in fresh:
        key = one.read.key
        ages[key] = max(ages.get(key, 0.0), one.age.total_seconds())
        if one.is_stale:
            stale.labels(key).inc()
    for one in forecast.find_oldest_reads(fresh).values():
        overdue.labels(one.read.key).set(max(0.0, one.overdue.total_seconds()))
    for key, age in ages.items():
        oldest.labels(key).set(age)
    for need in budget.needs:
        needed.labels(need.key).set(need.calls)
    return found


def write_metrics(found: "CollectorRegistry", target: str) -> None:
    """Write the figures to a file, atomically, or to standard output if the target is `-`."""
    from prometheus_client import generate_latest, write_to_textfile

    if target == "-":
        sys.stdout.write(generate_latest(found).decode())
        return
    file = find_replaceable_file(Path(target), "- is standard output.")
    try:
        write_to_textfile(str(file), found)
        file.chmod(PUBLIC_MODE)
    except OSError as error:
        raise click.UsageError(f"Cannot write {Path(target)}: {error.strerror}.") from None
