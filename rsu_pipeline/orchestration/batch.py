"""One run for many partners: idle ones are synced side by side, each reported to its own partition."""

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from functools import partial

import dagster as dg
from pydantic import Field

from rsu_pipeline import installation
from rsu_pipeline.display import MAX_NAME_CHARS, sanitize_for_display
from rsu_pipeline.errors import RsuError
from rsu_pipeline.orchestration import run_metadata
from rsu_pipeline.orchestration.assets.synced_assets import START_LISTS
from rsu_pipeline.orchestration.lanes import read_lane
from rsu_pipeline.orchestration.outages import Outage
from rsu_pipeline.orchestration.resources import RunSignupResource, WarehouseResource
from rsu_pipeline.orchestration.run_config import Number, PartitionKey, fields_of, read_config
from rsu_pipeline.orchestration.run_tags import PARENT_TAG
from rsu_pipeline.start_lists.start_list_store import RebuildFailed
from rsu_pipeline.sync import partner_sync, start_list_rebuild
from rsu_pipeline.sync.session import PartnerSession, limit_concurrent_partners

VISITED = dg.AssetKey("future_events")
"""The asset that each partner's sync materializes last."""


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

    `lists` is empty if the start lists were left unchanged, and `not_built` is the reason if they could not be built.
    """

    visited: partner_sync.PartnerSync
    budget_left: int
    lists: run_metadata.Metadata
    not_built: str = ""


@dg.op(config_schema=fields_of(BatchConfig))
def sync_partners(context: dg.OpExecutionContext, warehouse: WarehouseResource, runsignup: RunSignupResource) -> None:
    """Sync partners side by side. One partner's failure leaves the others."""
    config = read_config(BatchConfig, context.op_config)
    keys = list(dict.fromkeys(config.partners))
    if not keys:
        raise dg.Failure("This run names no partner. Enter partition keys under `partners`.", allow_retries=False)
    told_before = list_reported_partners(context.instance, context.run.tags.get(PARENT_TAG))
    left = [key for key in keys if key not in told_before]
    if len(left) < len(keys):
        context.log.info(
            f"{len(keys) - len(left)} of {len(keys)} partners were synced by the run that this one repeats"
        )

    with_lists = context.instance.get_materialized_partitions(dg.AssetKey(START_LISTS))
    outage = Outage(warehouse.address())

    def visit(key: str) -> PartnerSyncReport:
        with runsignup.partner_session(
            warehouse,
            key,
            lane=read_lane(context),
            run_id=context.run_id,
            log=lambda line: context.log.info(f"{key}: {line}"),
        ) as session:
            with start_list_rebuild.start_lists_rebuilt_on_failure(session):
                visited = partner_sync.sync_partner(
                    session, race_ids=config.races.get(key), relist=key in config.relist
                )
            told = PartnerSyncReport(visited, session.ledger.left(), {})
            _build_lists(session, told, anyway=key not in with_lists)
            return told

    failed: list[str] = []
    bug: Exception | None = None
    side_by_side = limit_concurrent_partners(installation.current().settings.budget)
    for key, future in _visits(left, lambda key: outage.outlast(lambda: visit(key)), side_by_side):
        shown = sanitize_for_display(key, MAX_NAME_CHARS)
        try:
            told = future.result()
        except RsuError as error:
            failed.append(f"{shown}: {error}")
            continue
        except Exception as error:  # a bug, raised below once the others are reported
            bug = error
            failed.append(f"{shown}: {type(error).__name__}, see below")
            continue
        # The materialization that marks a partner as done comes last: what was reported before a loss is reported again.
        for event in _materializations(key, told):
            outage.outlast(partial(context.log_event, event))
        if trouble := run_metadata.describe_failures(told.visited.sync):
            failed.append(f"{shown}: {trouble}")
        if told.not_built:
            failed.append(f"{shown}: its start lists could not be built: {told.not_built}")
    if failed:
        raise dg.Failure(
            f"{len(failed)} of {len(keys)} partners failed: {'; '.join(failed[: run_metadata.SAMPLE])}",
            metadata={"partners": len(keys), "partners_failed": len(failed)},
            allow_retries=False,
        ) from bug


def _visits(
    keys: Sequence[str], visit: Callable[[str], PartnerSyncReport], side_by_side: int
) -> Iterator[tuple[str, Future[PartnerSyncReport]]]:
    """Sync partners in parallel, and yield each result as it completes.

    A result is released once it was reported, so that memory does not grow with the number of partners.
    """
    following = iter(keys)
    with ThreadPoolExecutor(max_workers=side_by_side) as pool:
        waiting = {pool.submit(visit, key): key for key in itertools.islice(following, side_by_side)}
        try:
            while waiting:
                for future in wait(waiting, return_when=FIRST_COMPLETED).done:
                    key = waiting.pop(future)
                    for another in itertools.islice(following, 1):
                        waiting[pool.submit(visit, another)] = another
                    yield key, future
        finally:
            # A run that is terminated leaves out the partners that have not started.
            pool.shutdown(wait=False, cancel_futures=True)


def list_reported_partners(instance: dg.DagsterInstance, run_id: str | None) -> set[str]:
    """Return the partition keys of the partners that a batch, and the batches that it repeats, have synced.

    Each of them has a materialization of VISITED by the run. A partner whose sync raised has none.
    """
    told: set[str] = set()
    while run_id is not None:
        for record in instance.get_records_for_run(run_id, of_type=dg.DagsterEventType.ASSET_MATERIALIZATION).records:
            event = record.event_log_entry.dagster_event
            if event and event.asset_key == VISITED and event.partition:
                told.add(event.partition)
        run = instance.get_run_by_id(run_id)
        run_id = run.tags.get(PARENT_TAG) if run else None
    return told


def _build_lists(session: PartnerSession, told: PartnerSyncReport, *, anyway: bool) -> None:
    """Rebuild the partner's start lists if a registration or an event of theirs has changed since they were built."""
    events = told.visited.events
    relisted = events is not None and bool(events.races_written + events.events_written + events.events_gone)
    built = start_list_rebuild.rebuild_start_lists(session, anyway=anyway or relisted)
    if isinstance(built, RebuildFailed):
        told.not_built = built.reason
    elif built is not None:
        told.lists = run_metadata.start_lists_metadata(session.conn, session.partner_id, built, session.now())


def _materializations(key: str, told: PartnerSyncReport) -> Iterator[dg.AssetMaterialization]:
    """Yield what the sync did, as a materialization of the partner's partition of each asset.

    A sync that is not complete reports nothing of `participants`, and start lists left unchanged report nothing.
    """
    visited, left = told.visited, told.budget_left

    def of(asset: str, metadata: Mapping[str, dg.MetadataValue]) -> dg.AssetMaterialization:
        return dg.AssetMaterialization(asset, partition=key, metadata=dict(metadata))

    if visited.events is not None:
        yield of("partner_events", run_metadata.events_metadata(visited.events, left))
    if not run_metadata.describe_failures(visited.sync):
        yield of("participants", run_metadata.sync_metadata(visited.plan, visited.sync, left))
    if told.lists:
        yield of(START_LISTS, told.lists)
    yield of("future_events", run_metadata.plan_metadata(visited.plan))


@dg.job(description="Syncs many partners in one run, each reported to its own partition.")
def sync_batch() -> None:
    sync_partners()
