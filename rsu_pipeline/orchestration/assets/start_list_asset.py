"""The asset of start lists: read the partner, store what differs, report."""

import datetime as dt

import dagster as dg

from rsu_pipeline.orchestration import run_metadata
from rsu_pipeline.orchestration.assets.synced_assets import KINDS, START_LISTS, participants
from rsu_pipeline.orchestration.failures import expected_errors_as_failures
from rsu_pipeline.orchestration.partitions import read_partition, timing_partner
from rsu_pipeline.orchestration.resources import WarehouseResource
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
    tags={"lane": "routine"},
    metadata=table_metadata("start_list_entries"),
    config_schema=NO_CONFIG,
)
def start_lists(context: dg.AssetExecutionContext, warehouse: WarehouseResource) -> dg.MaterializeResult[None]:
    """Store who starts in which event with which bib, and which problems there are, for scoring.

    One row of `start_list_entries` is an entrant of an event that is upcoming or ended less than two days ago. `start_lists`
    has each event's figures, and the view `start_list` has all of it under readable names. It makes no call to RunSignup,
    and writes only rows that differ.
    """
    now = dt.datetime.now(dt.UTC)
    with expected_errors_as_failures(), warehouse.connect(START_LISTS) as conn:
        partner = credentials.find_partner(conn, read_partition(context))
        built = start_list_store.rebuild(conn, partner.partner_id, now)
        conn.commit()
        return dg.MaterializeResult(metadata=run_metadata.start_lists_metadata(conn, partner.partner_id, built, now))
