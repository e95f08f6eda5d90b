"""The pipeline's own engine as a measured process: partners' future events through the real sync.

Actions: `prepare` makes the schema and onboards the partners, `full` reads everything again, `plan` follows the plan (full
where nothing was read before, else incremental), `part` the same of the job's races alone, `history` reads every past event.
`visit` and `visit-full` do the same as `plan` and `full` partner by partner, each with its listing, as a batch run does: then
all of it is timed as one. `nightly` is what the nightly does with the defaults: races that fit one page are read in full, and the
listing is shown to end.

The job's variant names the optional fields to request. Without it there are none.
"""

import datetime as dt
import tempfile
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from typing import TypeVar

from benchmarks.measure import Job, Meter, Partner, Read, Report, answer, job
from rsu_pipeline.settings import Settings, SyncSettings, load_settings
from rsu_pipeline.sync import history, listing, partner_sync, sync_outcome
from rsu_pipeline.sync.read_plan import Plan
from rsu_pipeline.sync.session import PartnerSession, open_partner_session
from rsu_pipeline.warehouse import backfill_state, credentials, database
from rsu_pipeline.warehouse.secret_box import SecretBox

T = TypeVar("T")


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
    secret_box = SecretBox([work.secret_key], source="RSU_SECRET_KEY")
    with database.session(work.database_url, purpose="benchmark") as conn:
        database.migrate(conn)
        for item in work.partners:
            number = credentials.add(conn, secret_box, name=item.name, principal=item.key, secret=item.secret)
            assert number == item.number
            credentials.ensure_key(conn, number)
        conn.commit()


def settings_for(work: Job, **more: str) -> Settings:
    """Return the settings that a job means, with calls for an hour that never run out.

    `more` are variables beside them.
    """
    environment = {
        "RSU_HOME": tempfile.gettempdir(),
        "RSU_DATABASE_URL": work.database_url,
        "RSU_API_BASE_URL": work.api_url,
        "RSU_SECRET_KEY": work.secret_key,
        "RSU_CALLS_PER_HOUR": "1000000",
        "RSU_MAX_IN_FLIGHT": str(work.in_flight),
        "RSU_PAGE_SIZE": str(work.page_size),
        # Incremental reads are measured as such; benchmarks.small_races compares the two.
        "RSU_FULL_READ_UP_TO_ROWS": "0",
    }
    settings = load_settings(environment | more)
    # A run takes the moment at which the benchmark began for the present, so that the same races are due however long it takes.
    # The other clocks go on, and beyond the usual skew a sync would take it for open which of them is right.
    return replace(settings, sync=replace(settings.sync, max_clock_skew=86400.0))


def run(work: Job, report: Report, meter: Meter) -> None:
    """Run the partners side by side, as a batch run does."""
    small = str(SyncSettings.full_read_up_to_rows) if work.action == "nightly" else "0"
    settings = settings_for(work, RSU_FULL_READ_UP_TO_ROWS=small, RSU_INCLUDE=work.variant or "none")
    secret_box = SecretBox([work.secret_key], source="RSU_SECRET_KEY")
    now = dt.datetime.fromtimestamp(work.now, dt.UTC)

    def at_session(partner: Partner, do: Callable[[PartnerSession], T]) -> T:
        with open_partner_session(
            work.database_url,
            secret_box,
            settings,
            str(partner.number),
            lane="backfill" if work.action == "history" else "routine",
            run_id="benchmark",
            log=lambda line: None,
            now=lambda: now,
        ) as session:
            return do(session)

    in_one: dict[str, Callable[[PartnerSession], Report]] = {
        "history": _history,
        "visit": partial(_visit, force_full=False),
        "visit-full": partial(_visit, force_full=True),
        "nightly": _nightly,
    }
    # As in a batch run, one partner more than calls in flight, who has most to read first; backfills are runs of their own.
    at_once = work.in_flight if work.action == "history" else work.in_flight + 1
    races = Counter(read.partner for read in work.reads)
    work.partners.sort(key=lambda partner: -races[partner.number])
    with ThreadPoolExecutor(at_once) as pool:
        if work.action in in_one:
            with meter.timing(report.registrations):
                for done in pool.map(lambda partner: at_session(partner, in_one[work.action]), work.partners):
                    _add(report, done)
            return
        with meter.timing(report.listing):
            plan = partial(_plan, force_full=work.action == "full")
            planned = list(pool.map(lambda partner: at_session(partner, plan), work.partners))
            if work.action == "part":
                races = {(read.partner, read.race_id) for read in work.reads}
                planned = [
                    found.only({race_id for number, race_id in races if number == partner.number})
                    for partner, found in zip(work.partners, planned, strict=True)
                ]
        with meter.timing(report.registrations):
            syncs = pool.map(
                lambda partner, plan: at_session(partner, partial(_sync, plan=plan)), work.partners, planned
            )
            for done in syncs:
                _add(report, done)


def _history(session: PartnerSession) -> Report:
    backfill_state.request_backfill(session.conn, session.partner_id)
    session.conn.commit()
    done = history.run_slice(session, 1e9)
    report = _report(session, done.sync)
    report.problems += done.problems
    if not done.finished:
        report.problems.append(f"{session.key}: not finished")
    report.reads = [Read(session.partner_id, read.read.race_id, list(read.read.event_ids)) for read in done.sync.reads]
    return report


def _visit(session: PartnerSession, *, force_full: bool) -> Report:
    return _sync(session, plan=_plan(session, force_full=force_full))


def _nightly(session: PartnerSession) -> Report:
    done = partner_sync.sync_partner(session, race_ids=None, relist=True)
    assert done.events is not None and not done.events.problems, done.events
    return _sync_report(session, done.plan, done.sync)


def _plan(session: PartnerSession, *, force_full: bool) -> Plan:
    problems = listing.refresh_events(session).problems
    assert not problems, problems
    return partner_sync.make_plan(session, force_full=force_full)


def _sync(session: PartnerSession, *, plan: Plan) -> Report:
    return _sync_report(session, plan, partner_sync.sync_participants(session, plan))


def _sync_report(session: PartnerSession, plan: Plan, outcome: sync_outcome.SyncOutcome) -> Report:
    report = _report(session, outcome)
    report.reads = [Read(session.partner_id, read.race_id, list(read.event_ids)) for read in plan.reads]
    return report


def _report(session: PartnerSession, outcome: sync_outcome.SyncOutcome) -> Report:
    counts = outcome.counts
    problems = list(outcome.failures)
    if counts.quarantined or counts.with_faults:
        problems.append(f"{session.key}: {counts.quarantined} rows quarantined, {counts.with_faults} with faults")
    return Report(
        rows=counts.read,
        inserted=counts.inserted,
        updated=counts.updated,
        removed=counts.removed,
        bib_changes=counts.bib_changes,
        unequal=len(outcome.unequal_events),
        problems=problems,
    )


def _add(report: Report, done: Report) -> None:
    for name in ("rows", "inserted", "updated", "removed", "bib_changes", "unequal", "reads", "problems"):
        setattr(report, name, getattr(report, name) + getattr(done, name))


if __name__ == "__main__":
    main()
