"""The asset of start lists: read the partner, store what differs, report."""

import datetime as dt
from collections.abc import Iterator

import dagster as dg

from rsu_pipeline.orchestration import data_versions, run_metadata
from rsu_pipeline.orchestration.assets.synced_assets import KINDS, START_LISTS, SyncConfig, participants, sync_several
from rsu_pipeline.orchestration.failures import expected_errors_as_failures
from rsu_pipeline.orchestration.partitions import is_of_one_partner, read_partition, timing_partner
from rsu_pipeline.orchestration.partner_runs import BACKFILL_POLICY, note_skipped
from rsu_pipeline.orchestration.resources import RunSignupResource, WarehouseResource
from rsu_pipeline.orchestration.run_config import NO_CONFIG
from rsu_pipeline.orchestration.table_metadata import OPERATORS, SCORING, table_metadata
from rsu_pipeline.start_lists import start_list_store
from rsu_pipeline.warehouse import credentials


@dg.asset(
    name=START_LISTS,
    partitions_def=timing_partner,
    group_name="runsignup",
    kinds=KINDS,
    owners=[SCORING, OPERATORS],
    deps=[participants],
    code_version=data_versions.CODE_VERSIONS[START_LISTS],
    backfill_policy=BACKFILL_POLICY,
    output_required=False,
    tags={"lane": "routine"},
    metadata=table_metadata("start_list_entries"),
    config_schema=NO_CONFIG,
)
def start_lists(
    context: dg.AssetExecutionContext, warehouse: WarehouseResource, runsignup: RunSignupResource
) -> Iterator[dg.MaterializeResult[None]]:
    """Store who starts in which event with which bib, and which problems there are, for scoring.

    One row of `start_list_entries` is an entrant of an event that is upcoming or ended less than two days ago. `start_lists`
    has each event's figures, and the view `start_list` has all of it under readable names. It makes no call to RunSignup,
    and writes only rows that differ.
    """
    if not is_of_one_partner(context):
        sync_several(context, warehouse, runsignup, SyncConfig())
        return
    if note := note_skipped(context, warehouse, context.partition_key):
        yield note
        return
    now = dt.datetime.now(dt.UTC)
    with expected_errors_as_failures(), warehouse.connect(START_LISTS) as conn:
        partner = credentials.find_partner(conn, read_partition(context))
        built = start_list_store.rebuild(conn, partner.partner_id, now)
        conn.commit()
        metadata = run_metadata.start_lists_metadata(conn, partner.partner_id, built, now)
        version = data_versions.read_version(conn, START_LISTS, partner.partner_id)
    yield dg.MaterializeResult(metadata=metadata, data_version=version)
