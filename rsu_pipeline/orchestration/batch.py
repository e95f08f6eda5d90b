"""One run for many partners: idle ones are synced side by side, each reported to its own partition."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial

import dagster as dg
import sqlalchemy as sa
from pydantic import Field

from rsu_pipeline.orchestration import data_versions, run_metadata
from rsu_pipeline.orchestration.assets.synced_assets import START_LISTS, SYNCED
from rsu_pipeline.orchestration.dagster_internals import SqlEventLogStorageTable
from rsu_pipeline.orchestration.outages import Outage
from rsu_pipeline.orchestration.partner_runs import SkippedPartner, find_note, report_side_by_side
from rsu_pipeline.orchestration.resources import RunSignupResource, WarehouseResource
from rsu_pipeline.orchestration.run_config import Number, PartitionKey, fields_of, read_config
from rsu_pipeline.orchestration.run_tags import PARENT_TAG, list_repeated_runs
from rsu_pipeline.orchestration.storage import sql_event_log
from rsu_pipeline.start_lists.start_list_store import RebuildFailed
from rsu_pipeline.sync import partner_sync, start_list_rebuild
from rsu_pipeline.sync.session import PartnerSession
from rsu_pipeline.warehouse.credentials import PartnerError

EVENTS = SqlEventLogStorageTable.c
DONE_TAG = "rsu_partner_done"
"""The tag of the last materialization that a batch reports of a partner."""


class BatchConfig(dg.Config):
    """Which partners to sync, and which races of each."""

    partners: list[PartitionKey] = Field(description="Partition keys of the partners to sync.")
    races: dict[str, list[Number]] = Field(
        default={},
        description="Races to read by partition key, in addition to new ones. A partner left out: all races.",
    )
    relist: list[PartitionKey] = Field(
        default=[], description="Partition keys of the partners whose listing is read again."
    )
    first_syncs: dict[str, str] = Field(
        default={},
        description="When the key and secret of each partner were entered, in a run of first syncs. Set by new_credentials.",
    )


@dataclass
class PartnerSyncReport:
    """The result of one partner's sync, for its partitions.

    `versions` are those of the content of each asset. `lists` is empty if the start lists need no report, and `not_built` is the
    reason if they could not be built.
    """

    visited: partner_sync.PartnerSync
    budget_left: int
    lists: run_metadata.Metadata
    not_built: str = ""
    versions: dict[str, dg.DataVersion] = field(default_factory=dict)


@dg.op(config_schema=fields_of(BatchConfig))
def sync_partners(context: dg.OpExecutionContext, warehouse: WarehouseResource, runsignup: RunSignupResource) -> None:
    """Sync partners side by side. One partner's failure leaves the others."""
    config = read_config(BatchConfig, context.op_config)
    keys = list(dict.fromkeys(config.partners))
    if not keys:
        raise dg.Failure("This run names no partner. Enter partition keys under `partners`.", allow_retries=False)
    reported_before = list_reported_partners(context.instance, context.run.tags.get(PARENT_TAG))
    left = [key for key in keys if key not in reported_before]
    if len(left) < len(keys):
        context.log.info(
            f"{len(keys) - len(left)} of {len(keys)} partners were synced by the run that this one repeats"
        )

    outage = Outage(warehouse.address())

    def visit(key: str) -> PartnerSyncReport:
        try:
            return _sync(context, config, warehouse, runsignup, key)
        except PartnerError:
            # Asked only now: a session for the question would be a third of those that a partner takes.
            if note := find_note(warehouse, key):
                raise SkippedPartner(note) from None
            raise

    def report(key: str, outcome: PartnerSyncReport) -> list[str]:
        failures = []
        # The materialization that marks a partner as done comes last: what was reported before a loss is reported again.
        for asset, metadata, tags in _reports(outcome):
            outage.outlast(partial(_report, context, key, asset, outcome.versions[asset], metadata, tags))
        if trouble := run_metadata.describe_failures(outcome.visited.sync):
            failures.append(trouble)
        if outcome.not_built:
            failures.append(f"its start lists could not be built: {outcome.not_built}")
        return failures

    report_side_by_side(
        left,
        lambda key: outage.outlast(lambda: visit(key)),
        report,
        partners=len(keys),
        warn=context.log.warning,
    )


def _sync(
    context: dg.OpExecutionContext,
    config: BatchConfig,
    warehouse: WarehouseResource,
    runsignup: RunSignupResource,
    key: str,
) -> PartnerSyncReport:
    """Sync one partner, rebuild its start lists, and return what to report.

    Raises:
        PartnerError: the key belongs to no partner, or to one that is disabled.
    """
    with runsignup.partner_session_of_several(warehouse, context, key) as session:
        if session.key != key:
            raise PartnerError(f"{key} is the number of a partner and no partition key.")
        with start_list_rebuild.start_lists_rebuilt_on_failure(session):
            visited = partner_sync.sync_partner(session, race_ids=config.races.get(key), relist=key in config.relist)
        outcome = PartnerSyncReport(visited, session.ledger.left(), {})
        read_version = partial(data_versions.read_version, session.conn, partner_id=session.partner_id)
        outcome.versions = {asset: read_version(asset) for asset in SYNCED}
        # Lists that are current are reported as well if the UI would show them as unsynced.
        is_based = data_versions.is_based_on(context.instance, START_LISTS, key, outcome.versions["participants"])
        _build_lists(session, outcome, anyway=not is_based)
        outcome.versions[START_LISTS] = read_version(START_LISTS)
        session.conn.rollback()
        return outcome


def list_reported_partners(instance: dg.DagsterInstance, run_id: str | None) -> set[str]:
    """Return the partition keys of the partners that a batch, and the batches that it repeats, have synced.

    Each of them has a materialization with DONE_TAG by the run. A partner whose sync raised has none.
    """
    runs = [record.dagster_run.run_id for record in list_repeated_runs(instance, run_id)]
    # In the text of the events, since each tick of race_proximity would decode four of every partner. Within a string of that
    # text a quotation mark is escaped.
    reported = sa.select(EVENTS.partition).where(
        EVENTS.run_id.in_(runs),
        EVENTS.dagster_event_type == dg.DagsterEventType.ASSET_MATERIALIZATION.value,
        EVENTS.event.contains(f'"{DONE_TAG}"', autoescape=True),
    )
    with sql_event_log(instance).index_connection() as conn:
        return {str(key) for (key,) in conn.execute(reported)} if runs else set()


def _build_lists(session: PartnerSession, outcome: PartnerSyncReport, *, anyway: bool) -> None:
    """Rebuild the partner's start lists if a registration or an event of theirs has changed since they were built."""
    events = outcome.visited.events
    relisted = events is not None and bool(events.races_written + events.events_written + events.events_gone)
    built = start_list_rebuild.rebuild_start_lists(session, anyway=anyway or relisted)
    if isinstance(built, RebuildFailed):
        outcome.not_built = built.reason
    elif built is not None:
        outcome.lists = run_metadata.start_lists_metadata(session.conn, session.partner_id, built, session.now())


def _reports(outcome: PartnerSyncReport) -> Iterator[tuple[str, run_metadata.Metadata, dict[str, str]]]:
    """Yield what the sync did, asset by asset in the order of the lineage, with the tags of each report.

    A sync that is not complete reports nothing of `participants`. The last report marks the partner as done.
    """
    visited, left = outcome.visited, outcome.budget_left
    found: list[tuple[str, run_metadata.Metadata]] = []
    if visited.events is not None:
        found.append(("partner_events", run_metadata.events_metadata(visited.events, left)))
    reads = [one.read for one in visited.sync.reads]
    found.append(("future_events", run_metadata.plan_metadata(visited.plan, reads)))
    if not run_metadata.describe_failures(visited.sync):
        found.append(("participants", run_metadata.sync_metadata(visited.plan, visited.sync, left)))
    if outcome.lists:
        found.append((START_LISTS, outcome.lists))
    for place, (asset, metadata) in enumerate(found, start=1):
        yield asset, metadata, {DONE_TAG: "yes"} if place == len(found) else {}


def _report(
    context: dg.OpExecutionContext,
    key: str,
    asset: str,
    version: dg.DataVersion,
    metadata: run_metadata.Metadata,
    tags: Mapping[str, str],
) -> None:
    context.log_event(data_versions.materialization(context.instance, asset, key, version, metadata, tags=tags))


@dg.job(description="Syncs many partners in one run, each reported to its own partition.")
def sync_batch() -> None:
    sync_partners()
