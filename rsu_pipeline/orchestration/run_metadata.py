"""Metadata of runs. Numbers have fixed names on every path, so that plots have no gaps. Texts have other names."""

import datetime as dt
from collections.abc import Mapping, Sequence

import dagster as dg
from psycopg2.extensions import connection as Connection

from rsu_pipeline.display import format_time
from rsu_pipeline.runsignup import values
from rsu_pipeline.start_lists import start_list_store
from rsu_pipeline.sync.history import Slice, seconds_left
from rsu_pipeline.sync.listing import EventsOutcome
from rsu_pipeline.sync.read_plan import Plan, PlannedRead
from rsu_pipeline.sync.sync_outcome import SyncOutcome
from rsu_pipeline.warehouse.backfill_progress import Progress
from rsu_pipeline.warehouse.call_ledger import Ledger
from rsu_pipeline.warehouse.staging import Counts
from rsu_pipeline.warehouse.sync_log import describe_changes

Metadata = Mapping[str, dg.MetadataValue]
MAX_NAME_CHARS = 120
"""Characters of a race's or an event's name in a table of the Dagster UI."""
SAMPLE = 20
"""Rows of a table, or sentences of a list, that are shown at most."""


def events_metadata(outcome: EventsOutcome, budget_left: int) -> Metadata:
    """Return the metadata of a refresh of races and events."""
    return {
        "races": dg.MetadataValue.int(outcome.races),
        "races_written": dg.MetadataValue.int(outcome.races_written),
        "events_written": dg.MetadataValue.int(outcome.events_written),
        "events_gone": dg.MetadataValue.int(outcome.events_gone),
        "races_unlisted": dg.MetadataValue.int(outcome.races_unlisted),
        "races_lost_by_listing": dg.MetadataValue.int(outcome.races_lost),
        "rows_removed_by_listing": dg.MetadataValue.int(outcome.registrations_removed),
        "api_calls": dg.MetadataValue.int(outcome.calls),
        "budget_left": dg.MetadataValue.int(budget_left),
        "seconds": dg.MetadataValue.float(round(outcome.seconds, 3)),
        "problem_count": dg.MetadataValue.int(len(outcome.problems)),
        "problems": dg.MetadataValue.md(_bullets(outcome.problems)),
    }


def plan_metadata(plan: Plan, reads: Sequence[PlannedRead]) -> Metadata:
    """Return the metadata of a read plan, of which the run makes, or made, these reads."""
    return {
        "future_events": dg.MetadataValue.int(len(plan.events)),
        **count_reads(reads),
        "events": dg.MetadataValue.table(
            [
                dg.TableRecord(
                    {
                        "race": item.event.race_name[:MAX_NAME_CHARS],
                        "event": item.event.name[:MAX_NAME_CHARS],
                        "event_id": item.event.event_id,
                        "starts_at": format_time(item.event.starts_at, values.race_zone(item.event.timezone))
                        if item.event.starts_at
                        else "",
                        "tier": item.tier,
                        "next_read": item.mode,
                        "reason": item.reason,
                        "kind": "volunteers" if item.event.volunteer else "bundle" if item.event.is_bundle else "event",
                    }
                )
                for item in plan.events[:SAMPLE]
            ],
            schema=dg.TableSchema(
                [
                    dg.TableColumn(name)
                    for name in ("race", "event", "event_id", "starts_at", "tier", "next_read", "reason", "kind")
                ]
            ),
        ),
    }


def count_reads(reads: Sequence[PlannedRead]) -> Metadata:
    """Return how many reads are full, and how many incremental."""
    return {
        f"{mode}_reads": dg.MetadataValue.int(sum(read.mode == mode for read in reads))
        for mode in ("full", "incremental")
    }


def count_rows(counts: Counts) -> dict[str, int]:
    """Return the outcome of the rows that were read, by name."""
    return {
        "rows_read": counts.read,
        "rows_inserted": counts.inserted,
        "rows_updated": counts.updated + counts.reactivated,
        "rows_unchanged": counts.unchanged,
        "rows_removed": counts.removed,
        "rows_quarantined": counts.quarantined,
    }


def sync_metadata(plan: Plan, outcome: SyncOutcome, budget_left: int) -> Metadata:
    """Return the metadata of a sync of registrations."""
    counts = outcome.counts
    return {
        **{name: dg.MetadataValue.int(number) for name, number in count_rows(counts).items()},
        "rows_with_faults": dg.MetadataValue.int(counts.with_faults),
        "bib_changes": dg.MetadataValue.int(counts.bib_changes),
        "races_read": dg.MetadataValue.int(sum(read.error is None for read in outcome.reads)),
        "races_failed": dg.MetadataValue.int(len(outcome.failed_reads)),
        "races_lost": dg.MetadataValue.int(len(outcome.lost)),
        "races_not_read": dg.MetadataValue.int(outcome.not_read),
        "races_read_by_other_syncs": dg.MetadataValue.int(len(outcome.shared)),
        "races_left_to_other_syncs": dg.MetadataValue.int(len(outcome.elsewhere)),
        "api_calls": dg.MetadataValue.int(outcome.calls),
        "budget_left": dg.MetadataValue.int(budget_left),
        "seconds": dg.MetadataValue.float(round(outcome.seconds, 3)),
        **count_reads([one.read for one in outcome.reads]),
        "events": plan_metadata(plan, plan.reads)["events"],
        "reads": _reads_table(outcome),
    }


def _reads_table(outcome: SyncOutcome) -> dg.TableMetadataValue:
    """Return what was read, why, how long it took and what it changed: the run's rows of the sync log."""
    names = ("race", "race_id", "read", "reason", "seconds", "changed")
    rows = [
        (
            one.read.race_name[:MAX_NAME_CHARS],
            one.read.race_id,
            one.read.mode,
            one.read.reason,
            round(one.seconds, 1),
            f"FAILED: {one.error}" if one.error else describe_changes(vars(one.counts)),
        )
        for one in sorted(outcome.reads, key=lambda one: (one.error is None, not one.counts.has_changes))[:SAMPLE]
    ]
    return dg.MetadataValue.table(
        [dg.TableRecord(dict(zip(names, row, strict=True))) for row in rows],
        schema=dg.TableSchema([dg.TableColumn(name) for name in names]),
    )


def history_metadata(done: Slice, progress: Progress | None, ledger: Ledger) -> Metadata:
    """Return the metadata of a slice of a partner's backfill, and of the whole backfill."""
    assert progress is not None, "a slice was run"  # noqa: S101
    left = seconds_left(
        progress,
        free_now=ledger.left(),
        per_hour=ledger.lane_limit,
        call_seconds=done.seconds / done.calls if done.calls else 0.0,
    )
    counts = done.sync.counts
    whole = {
        "complete": int(progress.is_complete),
        "cancelled": int(progress.cancelled_at is not None),
        "races": progress.races,
        "races_done": progress.races_done,
        "races_failing": progress.failing,
        "past_events": progress.events,
        "events_loaded": progress.loaded,
        "events_empty": progress.empty,
        "events_unavailable": progress.unavailable,
        "events_unconfirmed": progress.unconfirmed,
        "registrations": progress.registrations,
        "calls_so_far": progress.calls,
        "calls_left_estimate": progress.calls_left,
    }
    this = {
        **count_rows(counts),
        "races_read": done.races - len(done.problems),
        "api_calls": done.calls,
        "budget_left": ledger.left(),
    }
    return {
        **{name: dg.MetadataValue.int(number) for name, number in (whole | this).items()},
        **({"cancelled_at": dg.MetadataValue.timestamp(progress.cancelled_at)} if progress.cancelled_at else {}),
        "seconds": dg.MetadataValue.float(round(done.seconds, 3)),
        "hours_left_estimate": dg.MetadataValue.float(round(left / 3600, 2)),
        "problem_count": dg.MetadataValue.int(len(done.problems)),
        "problems": dg.MetadataValue.md(_bullets(done.problems)),
    }


def start_lists_metadata(
    conn: Connection, partner_id: int, built: start_list_store.RebuildResult, now: dt.datetime
) -> Metadata:
    """Return the metadata of a partner's start lists and their last rebuild. Entrants appear by number only, never by name."""
    lists = start_list_store.read_start_lists(conn, partner_id, now)
    figures = (
        *("entrants", "with_bib", "without_bib", "duplicate_bibs", "bibs_in_other_events", "out_of_range"),
        "in_two_events",
    )
    numbers = {"lists": len(lists)} | {name: sum(getattr(item, name) for item in lists) for name in figures}
    entries = {f"entries_{name}": getattr(built, name) for name in ("inserted", "updated", "deleted", "unchanged")}
    columns = ("race", "event", "event_id", "start", *figures, "lowest_bib", "highest_bib")
    return {
        **{name: dg.MetadataValue.int(number) for name, number in (numbers | entries).items()},
        "seconds": dg.MetadataValue.float(round(built.seconds, 3)),
        "events": dg.MetadataValue.table(
            [
                dg.TableRecord(
                    {
                        **{name: getattr(item, name) for name in columns},
                        "race": item.race[:MAX_NAME_CHARS],
                        "event": item.event[:MAX_NAME_CHARS],
                        "start": f"{item.start.replace(tzinfo=values.race_zone(item.timezone)):%Y-%m-%d %H:%M %Z}"
                        if item.start
                        else "",
                    }
                )
                for item in lists[:SAMPLE]
            ],
            schema=dg.TableSchema([dg.TableColumn(name) for name in columns]),
        ),
        "problems": dg.MetadataValue.json(
            [vars(item) for item in start_list_store.read_problems(conn, partner_id, SAMPLE)]
        ),
    }


def describe_failures(outcome: SyncOutcome) -> str:
    """Return what is not up to date after a sync, for the run's failure, or an empty text."""
    sentences = outcome.failures
    if outcome.out_of_budget is not None:
        sentences = [
            *sentences,
            f"call budget used up: {outcome.not_read} reads are left, the next call is free in {outcome.out_of_budget:.0f} s, and"
            " the next sync continues from there",
        ]
    if not sentences:
        return ""
    done = sum(read.error is None for read in outcome.reads)
    return f"{done} reads are stored. Not up to date: " + "; ".join(sentences[:SAMPLE])


def _bullets(sentences: list[str]) -> str:
    shown = [f"- {sentence}" for sentence in sentences[:SAMPLE]]
    if len(sentences) > SAMPLE:
        shown.append(f"- and {len(sentences) - SAMPLE} more")
    return "\n".join(shown)
