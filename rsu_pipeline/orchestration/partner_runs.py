"""Runs for several partners' partitions, and partitions for which there is nothing to do.

"All" in the Dagster UI launches a few runs with several partitions each (see BACKFILL_POLICY), and not a process for each
partner. The first asset of such a run does the work of all its assets, partner by partner and several side by side. It
reports each partner to its own partitions, so that one partner's failure leaves the others. The steps of the other assets
are skipped.

A disabled partner, and a key that belongs to no partner, fail nothing: the partition gets a note.
"""

import itertools
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from functools import partial
from typing import TypeVar

import dagster as dg

from rsu_pipeline import installation
from rsu_pipeline.display import MAX_NAME_CHARS, sanitize_for_display
from rsu_pipeline.errors import RsuError
from rsu_pipeline.orchestration import data_versions, run_metadata
from rsu_pipeline.orchestration.failures import expected_errors_as_failures
from rsu_pipeline.orchestration.outages import Outage
from rsu_pipeline.orchestration.resources import WarehouseResource
from rsu_pipeline.sync.session import PartnerSession, limit_concurrent_partners
from rsu_pipeline.warehouse import credentials

PARTNERS_PER_RUN = 25
BACKFILL_POLICY = dg.BackfillPolicy.multi_run(PARTNERS_PER_RUN)
"""How the assets of a sync are backfilled: one run of four steps for this many partners."""
AHEAD = 2
"""Partners of a run that are submitted or finished and not reported, as a multiple of those that work at a time."""
SLICES_PER_RUN = 10
HISTORY_POLICY = dg.BackfillPolicy.multi_run(SLICES_PER_RUN)
"""The same of past editions. Each partner's first slice is limited, and single runs of the sensor `history` continue it."""
Result = TypeVar("Result")


class SkippedPartner(RsuError):
    """There is nothing to do for a partner of a batch. The text is the reason."""


@dataclass
class Reports:
    """What one partner's part of a run reports: asset, version of its content and metadata, in the order of the lineage.

    `failure` is why the rest could not be done, empty if nothing failed.
    """

    found: list[tuple[str, dg.DataVersion, run_metadata.Metadata]] = field(default_factory=list)
    failure: str = ""

    def add(self, session: PartnerSession, asset: str, metadata: run_metadata.Metadata) -> None:
        """Add the report of an asset, with the version of what is stored now."""
        self.found.append((asset, data_versions.read_version(session.conn, asset, session.partner_id), metadata))
        session.conn.rollback()


def find_note(warehouse: WarehouseResource, key: str) -> str | None:
    """Return why there is nothing to do for a partition, or None."""
    with warehouse.connect("find partner") as conn:
        partner = credentials.get_partner_by_key(conn, key)
    shown = sanitize_for_display(key, MAX_NAME_CHARS)
    if partner is None:
        return f"Partition {shown} belongs to no partner. Nothing was read. The sensor new_credentials removes it."
    if partner.disabled_at is not None:
        return f"Partner {shown} is disabled. Nothing was read. `rsu partners enable {partner.partner_id}` enables it."
    return None


def note_skipped(
    context: dg.AssetExecutionContext, warehouse: WarehouseResource, key: str
) -> dg.MaterializeResult[None] | None:
    """Return the result of an asset's partition for which there is nothing to do, with the reason, or None."""
    with expected_errors_as_failures():
        note = find_note(warehouse, key)
    if note is None:
        return None
    context.log.warning(note)
    return dg.MaterializeResult(metadata={"note": note})


def run_side_by_side(keys: Sequence[str], work: Callable[[str], Result]) -> Iterator[tuple[str, Future[Result]]]:
    """Do the work for several partners at a time, and yield each result as it completes.

    A result is released once it was reported, so that memory does not grow with the number of partners. As many as work at a time
    may be ahead of the reports, so that nobody waits for a report.
    """
    side_by_side = limit_concurrent_partners(installation.current().settings.budget)
    following = iter(keys)
    with ThreadPoolExecutor(max_workers=side_by_side) as pool:
        waiting = {pool.submit(work, key): key for key in itertools.islice(following, AHEAD * side_by_side)}
        try:
            while waiting:
                for future in wait(waiting, return_when=FIRST_COMPLETED).done:
                    key = waiting.pop(future)
                    for another in itertools.islice(following, 1):
                        waiting[pool.submit(work, another)] = another
                    yield key, future
        finally:
            # A run that is terminated leaves out the partners that have not started.
            pool.shutdown(wait=False, cancel_futures=True)


def report_side_by_side(
    keys: Sequence[str],
    work: Callable[[str], Result],
    report: Callable[[str, Result], list[str]],
    *,
    partners: int,
    warn: Callable[[str], None],
) -> None:
    """Do the work for several partners, and report each as it completes. One partner's failure leaves the others.

    Args:
        keys: the partition keys.
        work: does a partner's part, in a thread of its own.
        report: reports a partner, and returns what failed of its part.
        partners: how many partners the run is for, those of earlier runs included.
        warn: logs why a partner was skipped.

    Raises:
        dg.Failure: some partners failed. The others are reported.
    """
    failed: list[str] = []
    bug: Exception | None = None
    for key, future in run_side_by_side(keys, work):
        shown = sanitize_for_display(key, MAX_NAME_CHARS)
        try:
            result = future.result()
        except SkippedPartner as note:
            warn(str(note))
            continue
        except RsuError as error:
            failed.append(f"{shown}: {error}")
            continue
        except Exception as error:  # a bug, raised below once the others are reported
            bug = error
            failed.append(f"{shown}: {type(error).__name__}, see below")
            continue
        failed += [f"{shown}: {failure}" for failure in report(key, result)]
    if failed:
        raise dg.Failure(
            f"{len(failed)} of {partners} partners failed: {'; '.join(failed[: run_metadata.SAMPLE])}",
            metadata={"partners": partners, "partners_failed": len(failed)},
            allow_retries=False,
        ) from bug


def materialize_several(
    context: dg.AssetExecutionContext,
    warehouse: WarehouseResource,
    keys: Sequence[str],
    assets: Sequence[str],
    work: Callable[[str], Reports],
) -> None:
    """Do the work of a run with several partitions, and report each partner to its own partitions.

    Args:
        context: the run's.
        warehouse: the hub's database.
        keys: the partition keys.
        assets: the assets of the run, which get the note of a partner that is skipped.
        work: does a partner's part, in a thread of its own.

    Raises:
        dg.Failure: some partners failed. The others are reported.
    """
    outage = Outage(warehouse.address())

    def visit(key: str) -> Reports:
        if note := find_note(warehouse, key):
            version = dg.DataVersion("skipped")
            return Reports([(asset, version, {"note": dg.MetadataValue.text(note)}) for asset in assets])
        return work(key)

    def report(key: str, reports: Reports) -> list[str]:
        for asset, version, metadata in reports.found:
            outage.outlast(partial(_report, context, key, asset, version, metadata))
        return [reports.failure] if reports.failure else []

    report_side_by_side(
        keys,
        lambda key: outage.outlast(lambda: visit(key)),
        report,
        partners=len(keys),
        warn=context.log.warning,
    )


def _report(
    context: dg.AssetExecutionContext,
    key: str,
    asset: str,
    version: dg.DataVersion,
    metadata: run_metadata.Metadata,
) -> None:
    context.log_event(data_versions.materialization(context.instance, asset, key, version, metadata))
