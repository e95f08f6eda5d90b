"""Jobs: verbs over the assets."""

import dagster as dg

from rsu_pipeline.orchestration.assets.participant_history import participant_history
from rsu_pipeline.orchestration.assets.start_list_asset import start_lists
from rsu_pipeline.orchestration.assets.synced_assets import future_events, participants, partner_events

sync_partner = dg.define_asset_job(
    "sync_partner",
    selection=dg.AssetSelection.assets(partner_events, future_events, participants, start_lists),
    description="Brings one timing partner's events, registrations and start lists up to date.",
)

backfill_history = dg.define_asset_job(
    "backfill_history",
    selection=dg.AssetSelection.assets(participant_history),
    description="Reads one timing partner's past editions for some minutes. The sensor `history` launches the next slice.",
)
