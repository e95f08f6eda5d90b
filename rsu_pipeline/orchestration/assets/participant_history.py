"""The asset of past editions: fetch and store a slice, report."""

import time
from collections.abc import Iterator

import dagster as dg
from pydantic import Field

from rsu_pipeline import installation
from rsu_pipeline.orchestration import data_versions, run_metadata
from rsu_pipeline.orchestration.assets.synced_assets import KINDS, START_LISTS, partner_events, rebuild_lists
from rsu_pipeline.orchestration.failures import expected_errors_as_failures
from rsu_pipeline.orchestration.partitions import is_of_one_partner, read_partitions, timing_partner
from rsu_pipeline.orchestration.partner_runs import HISTORY_POLICY, Reports, materialize_several, note_skipped
from rsu_pipeline.orchestration.resources import RunSignupResource, WarehouseResource
from rsu_pipeline.orchestration.run_config import fields_of, read_config
from rsu_pipeline.orchestration.run_tags import PARENT_TAG
from rsu_pipeline.orchestration.table_metadata import OPERATORS, table_metadata
from rsu_pipeline.start_lists.start_list_store import RebuildFailed
from rsu_pipeline.sync import history, start_list_rebuild
from rsu_pipeline.sync.session import PartnerSession
from rsu_pipeline.warehouse import backfill_progress, backfill_state


class HistoryConfig(dg.Config):
    """What an operator may request of a partner's backfill."""

    since_year: int | None = Field(
        default=None, ge=1900, le=2200, description="Leave out events that started in an earlier year. Empty: all."
    )
    reload: bool = Field(default=False, description="Read again what was already read.")
    resume_only: bool = Field(
        default=False, description="Only continue an existing request. The sensor `history` sets it for each slice."
    )


@dg.asset(
    partitions_def=timing_partner,
    group_name="runsignup",
    kinds=KINDS,
    owners=[OPERATORS],
    deps=[partner_events],
    code_version=data_versions.CODE_VERSIONS["participant_history"],
    backfill_policy=HISTORY_POLICY,
    output_required=False,
    tags={"lane": "backfill"},
    metadata=table_metadata("runsignup_participants"),
    config_schema=fields_of(HistoryConfig),
)
def participant_history(
    context: dg.AssetExecutionContext,
    warehouse: WarehouseResource,
    runsignup: RunSignupResource,
) -> Iterator[dg.MaterializeResult[None]]:
    """Store the registrations of all editions of a partner's races, past ones included.

    One row of `runsignup_participants` is a registration. `history_events` shows which past events were read, which
    are empty at RunSignup, and which it no longer returns. One run reads for some minutes (RSU_HISTORY_SLICE), and the sensor
    `history` launches the next until nothing is left. `history_complete` is red until then. Terminating a run, or cancelling
    the Dagster backfill, cancels the request. Launching it again resumes it.
    """
    config = read_config(HistoryConfig, context.op_execution_context.op_config)
    if not is_of_one_partner(context):
        _read_several(context, warehouse, runsignup, config)
        return
    if note := note_skipped(context, warehouse, context.partition_key):
        yield note
        return
    with expected_errors_as_failures(), runsignup.partner_session_of_run(warehouse, context) as session:
        _request(context, session, config)
        metadata = _read_slice(session, installation.current().settings.history.slice_seconds)
        # An event that ended less than two days ago is past and has a list.
        if not_built := rebuild_lists(context, session):
            raise dg.Failure(not_built, allow_retries=False)
        version = data_versions.read_version(session.conn, "participant_history", session.partner_id)
        yield dg.MaterializeResult(metadata=metadata, data_version=version)


def _read_slice(session: PartnerSession, seconds: float) -> run_metadata.Metadata:
    """Read a slice of a partner's backfill, and return the metadata of what it did and of the whole."""
    with start_list_rebuild.start_lists_rebuilt_on_failure(session):
        done = history.run_slice(session, seconds)
    progress = backfill_progress.read_progress(session.conn, session.partner_id, session.now())
    return run_metadata.history_metadata(done, progress, session.ledger)


def _read_several(
    context: dg.AssetExecutionContext,
    warehouse: WarehouseResource,
    runsignup: RunSignupResource,
    config: HistoryConfig,
) -> None:
    """Make the requests of several partners, and read a slice for as many as there is time for. The sensor continues all."""
    ends = time.monotonic() + installation.current().settings.history.slice_seconds

    def work(key: str) -> Reports:
        with runsignup.partner_session_of_several(warehouse, context, key) as session:
            _request(context, session, config)
            metadata = _read_slice(session, max(0.0, ends - time.monotonic()))
            reports = Reports()
            built = start_list_rebuild.rebuild_start_lists(session)
            if isinstance(built, RebuildFailed):
                reports.failure = f"its start lists could not be built: {built.reason}"
            elif built is not None:
                lists = run_metadata.start_lists_metadata(session.conn, session.partner_id, built, session.now())
                reports.add(session, START_LISTS, lists)
            reports.add(session, "participant_history", metadata)
            return reports

    materialize_several(context, warehouse, read_partitions(context), ["participant_history"], work)


def _request(context: dg.AssetExecutionContext, session: PartnerSession, config: HistoryConfig) -> None:
    """Make the partner's request, unless the run only continues one. Repeating a run by hand resumes a cancelled request."""
    tags = context.run.tags
    made = backfill_state.get_request(session.conn, session.partner_id) if config.resume_only else None
    is_repeated = PARENT_TAG in tags and "dagster/retry_number" not in tags
    if made is not None and not (made.cancelled_at and is_repeated):
        return
    backfill_state.request_backfill(
        session.conn,
        session.partner_id,
        since_year=made.since_year if made else config.since_year,
        reload=config.reload,
        run_id=context.run.run_id,
        backfill_id=tags.get("dagster/backfill"),
    )
    session.conn.commit()
