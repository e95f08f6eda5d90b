"""Everything Dagster loads, assembled in one place."""

from collections.abc import Mapping
from typing import Any

import dagster as dg

from rsu_pipeline.orchestration import checks, jobs, sensors
from rsu_pipeline.orchestration.assets import sync
from rsu_pipeline.orchestration.resources import RunSignupResource, WarehouseResource


def build_definitions(resources: Mapping[str, Any] | None = None) -> dg.Definitions:
    """The definitions, with `resources` in place of the usual ones."""
    return dg.Definitions(
        assets=[sync.partner_events, sync.future_events, sync.participants],
        asset_checks=[checks.equals_runsignup, checks.no_quarantined_rows],
        jobs=[jobs.sync_partner],
        sensors=[sensors.new_credentials],
        resources={"warehouse": WarehouseResource(), "runsignup": RunSignupResource(), **(resources or {})},
        executor=dg.in_process_executor,
    )


defs = build_definitions()
