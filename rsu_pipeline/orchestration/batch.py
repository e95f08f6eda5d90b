"""One run for many partners: idle ones are synced side by side, each reported to its own partition."""

from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass

import dagster as dg
from pydantic import Field

from rsu_pipeline import installation
from rsu_pipeline.display import MAX_NAME_CHARS, sanitize_for_display
from rsu_pipeline.orchestration import report
from rsu_pipeline.orchestration.assets.sync import START_LISTS
from rsu_pipeline.orchestration.failures import FORESEEN
from rsu_pipeline.orchestration.lanes import lane_of
from rsu_pipeline.orchestration.resources import RunSignupResource, WarehouseResource
from rsu_pipeline.orchestration.run_config import Number, PartitionKey, fields_of, read_config
from rsu_pipeline.settings import BudgetSettings
from rsu_pipeline.sync import lists
from rsu_pipeline.sync import partner as sync
from rsu_pipeline.sync.desk import Desk
from rsu_pipeline.warehouse.start_lists import NotBuilt

PATIENCE = 30.0
"""Seconds to wait for a partner: the watch has it for a moment at each look, a backfill until its next race."""

SIDE_BY_SIDE = 8
"""Partners at a time where each credential has places in flight of its own."""


class BatchConfig(dg.Config):
    """Which partners, and what of each."""

    partners: list[PartitionKey] = Field(description="Partition keys of the partners to sync.")
    races: dict[str, list[Number]] = Field(
        default={}, description="By partition key the races to read, beside any never read; a partner left out: all."
    )
    relist: list[PartitionKey] = Field(
        default=[], description="Partition keys of the partners whose listing is to be read too."
    )


@dataclass
class Told:
    """What a visit did, for the partner's partitions: `lists` is empty when the start lists were left as they are, and
    `not_built` says why they could not be built."""

    visited: sync.Visited
    budget_left: int
    lists: report.Metadata
    not_built: str = ""


def partners_at_once(budget: BudgetSettings) -> int:
    """How many partners a run has side by side: one writes while the others ask."""
    at_once = budget.max_in_flight + 1
    return at_once if budget.in_flight_scope == "all" else max(at_once, SIDE_BY_SIDE)


@dg.op(config_schema=fields_of(BatchConfig))
def sync_partners(context: dg.OpExecutionContext, warehouse: WarehouseResource, runsignup: RunSignupResource) -> None:
    """Syncs partners side by side, one more than may call at once; one partner's failure leaves the others."""
    config = read_config(BatchConfig, context.op_config)

    with_lists = context.instance.get_materialized_partitions(dg.AssetKey(START_LISTS))

    def visit(key: str) -> Told:
        with runsignup.desk(
            warehouse,
            key,
            lane=lane_of(context),
            run_id=context.run_id,
            say=lambda line: context.log.info(f"{key}: {line}"),
            patience=PATIENCE,
        ) as desk:
            with lists.rebuilt_on_failure(desk):
                visited = sync.visit(desk, race_ids=config.races.get(key), relist=key in config.relist)
            told = Told(visited, desk.ledger.left(), {})
            _build_lists(desk, told, anyway=key not in with_lists)
            return told

    failed: list[str] = []
    bug: Exception | None = None
    with ThreadPoolExecutor(max_workers=partners_at_once(installation.current().settings.budget)) as pool:
        waiting = {pool.submit(visit, key): key for key in dict.fromkeys(config.partners)}
        try:
            for future in as_completed(waiting):
                key = waiting[future]
                shown = sanitize_for_display(key, MAX_NAME_CHARS)
                try:
                    told = future.result()
                except FORESEEN as error:
                    failed.append(f"{shown}: {error}")
                    continue
                except Exception as error:  # a bug of ours, raised below once the others are told
                    bug = error
                    failed.append(f"{shown}: {type(error).__name__}, see below")
                    continue
                for event in _materializations(key, told):
                    context.log_event(event)
                if trouble := report.trouble(told.visited.sync):
                    failed.append(f"{shown}: {trouble}")
                if told.not_built:
                    failed.append(f"{shown}: its start lists could not be built: {told.not_built}")
        finally:
            # A run that is terminated leaves out the partners whose turn has not come.
            pool.shutdown(wait=False, cancel_futures=True)
    if failed:
        raise dg.Failure(
            f"{len(failed)} of {len(config.partners)} partners are not up to date: {'; '.join(failed[: report.SAMPLE])}",
            metadata={"partners": len(config.partners), "partners_failed": len(failed)},
            allow_retries=False,
        ) from bug


def _build_lists(desk: Desk, told: Told, *, anyway: bool) -> None:
    """Builds the partner's start lists where a registration or an event of theirs has changed since they were built."""
    events = told.visited.events
    relisted = events is not None and bool(events.races_written + events.events_written + events.events_gone)
    built = lists.rebuild(desk, anyway=anyway or relisted)
    if isinstance(built, NotBuilt):
        told.not_built = built.reason
    elif built is not None:
        told.lists = report.start_lists_metadata(desk.conn, desk.partner_id, built, desk.now())


def _materializations(key: str, told: Told) -> Iterator[dg.AssetMaterialization]:
    """What the visit did, told to the partner's partition of each asset; a sync that is not whole tells nothing of
    `participants`, and start lists left as they are tell nothing."""
    visited, left = told.visited, told.budget_left

    def of(asset: str, metadata: Mapping[str, dg.MetadataValue]) -> dg.AssetMaterialization:
        return dg.AssetMaterialization(asset, partition=key, metadata=dict(metadata))

    if visited.events is not None:
        yield of("partner_events", report.events_metadata(visited.events, left))
    yield of("future_events", report.plan_metadata(visited.plan))
    if not report.trouble(visited.sync):
        yield of("participants", report.sync_metadata(visited.plan, visited.sync, left))
    if told.lists:
        yield of(START_LISTS, told.lists)


@dg.job(description="Syncs many partners in one run, each reported to its own partition.")
def sync_batch() -> None:
    sync_partners()
