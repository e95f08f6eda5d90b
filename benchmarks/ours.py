"""The pipeline's own engine as a measured process: partners' future events through the real sync.

Actions: `prepare` makes the schema and onboards the partners, `full` reads everything again, `plan` reads what the plan
says (full where nothing was read before, else incremental), `history` reads every past event.
"""

import datetime as dt
import tempfile

from benchmarks.measure import Job, Meter, Read, Report, answer, job
from rsu_pipeline import settings as configuration
from rsu_pipeline.sync import backfill, listing
from rsu_pipeline.sync import partner as sync
from rsu_pipeline.sync.desk import Desk, open_desk
from rsu_pipeline.warehouse import backfill as backfill_requests
from rsu_pipeline.warehouse import credentials, database
from rsu_pipeline.warehouse.sealing import Sealer


def main() -> None:
    meter = Meter()
    work = job()
    report = Report()
    if work.action == "prepare":
        prepare(work)
    else:
        run(work, report, meter)
    meter.close(report)
    answer(report)


def prepare(work: Job) -> None:
    sealer = Sealer([work.secret_key], source="RSU_SECRET_KEY")
    with database.session(work.database_url, purpose="benchmark") as conn:
        database.migrate(conn)
        for item in work.partners:
            number = credentials.add(conn, sealer, name=item.name, principal=item.key, secret=item.secret)
            assert number == item.number
            credentials.ensure_key(conn, number)
        conn.commit()


def run(work: Job, report: Report, meter: Meter) -> None:
    settings = configuration.load(
        {
            "RSU_HOME": tempfile.gettempdir(),
            "RSU_DATABASE_URL": work.database_url,
            "RSU_API_BASE_URL": work.api_url,
            "RSU_SECRET_KEY": work.secret_key,
            "RSU_CALLS_PER_HOUR": "1000000",
            "RSU_PAGE_SIZE": str(work.page_size),
        }
    )
    sealer = Sealer([work.secret_key], source="RSU_SECRET_KEY")
    now = dt.datetime.fromtimestamp(work.now, dt.UTC)
    for item in work.partners:
        with open_desk(
            work.database_url,
            sealer,
            settings,
            str(item.number),
            lane="backfill" if work.action == "history" else "routine",
            run_id="benchmark",
            say=lambda line: None,
            now=lambda: now,
        ) as desk:
            if work.action == "history":
                _history(desk, report, meter)
            else:
                _partner(desk, report, meter, force_full=work.action == "full")


def _history(desk: Desk, report: Report, meter: Meter) -> None:
    backfill_requests.ask(desk.conn, desk.partner_id)
    desk.conn.commit()
    with meter.timing(report.registrations):
        done = backfill.run_slice(desk, 1e9)
    report.problems += done.problems
    if not done.finished:
        report.problems.append(f"{desk.key}: not finished")
    _count(desk, report, done.sync)
    report.reads += [Read(desk.partner_id, read.read.race_id, list(read.read.event_ids)) for read in done.sync.reads]


def _partner(desk: Desk, report: Report, meter: Meter, *, force_full: bool) -> None:
    with meter.timing(report.listing):
        report.problems += listing.refresh_events(desk).problems
        plan = sync.make_plan(desk, force_full=force_full)
    with meter.timing(report.registrations):
        outcome = sync.sync_participants(desk, plan)
    _count(desk, report, outcome)
    report.reads += [Read(desk.partner_id, read.race_id, list(read.event_ids)) for read in plan.reads]


def _count(desk: Desk, report: Report, outcome: sync.SyncOutcome) -> None:
    counts = outcome.counts
    report.problems += outcome.failures
    if counts.quarantined or counts.with_faults:
        report.problems.append(f"{desk.key}: {counts.quarantined} rows held back, {counts.with_faults} with faults")
    report.rows += counts.read
    report.inserted += counts.inserted
    report.updated += counts.updated
    report.removed += counts.removed
    report.bib_changes += counts.bib_changes
    report.unequal += len(outcome.unequal_events)


if __name__ == "__main__":
    main()
