"""Lanes: which runs go first in the queue, and which stop first when calls run short. The tag `lane` names a run's lane."""

from dataclasses import dataclass
from typing import get_args

import dagster as dg

from rsu_pipeline.warehouse.call_ledger import Lane

LANE_TAG = "lane"
HISTORY = dg.AssetKey("participant_history")


@dataclass(frozen=True)
class LaneRules:
    """The queue priority of a lane and the maximum runtime of its runs in seconds. A run that exceeds it is terminated."""

    priority: int
    max_runtime: int


RULES: dict[Lane, LaneRules] = {
    # A watch lasts RSU_WATCH_SLICE, 2 h at the most, and waits for the one before it.
    "race_day": LaneRules(30, 3 * 3600),
    # 400,000 registrations are 160 calls, about 4 minutes. An account of many years takes considerably longer.
    "new_partner": LaneRules(20, 2 * 3600),
    # The whole fleet in one run: 1,000 partners of three races, two calls at a time, are 82 minutes.
    "routine": LaneRules(10, 2 * 3600),
    # Backfills work in slices of minutes.
    "backfill": LaneRules(0, 3600),
}


def read_lane_of_run(run: dg.DagsterRun) -> Lane:
    """Return the lane that a run is tagged with, `routine` if the tag names none, and the lane of its purpose without a tag."""
    if LANE_TAG in run.tags:
        return _named(run.tags[LANE_TAG]) or "routine"
    return lane_of_purpose(run)


def lane_of_purpose(run: dg.DagsterRun) -> Lane:
    """Return the lane that follows from the purpose of a run."""
    if "watch" in run.job_name:
        return "race_day"
    if "dagster/backfill" in run.tags or HISTORY in (run.asset_selection or ()):
        return "backfill"
    return "routine"


def permitted_lane(run: dg.DagsterRun, *, is_automatic: bool) -> Lane:
    """Return the lane that a run gets when it is queued.

    A lane is a share of the calls, so its tag can make a run less urgent than its purpose, and never more. Only the
    first sync of a partner is more urgent than other syncs, and only if the daemon submits it. A watch is always in lane
    race_day: a slower one would keep the place of the one that is needed.
    """
    purpose = lane_of_purpose(run)
    named = _named(run.tags.get(LANE_TAG, ""))
    if named is None or purpose == "race_day":
        return purpose
    if named == "new_partner" and purpose == "routine" and is_automatic:
        return named
    return min(purpose, named, key=lambda lane: RULES[lane].priority)


def read_lane(context: dg.AssetExecutionContext | dg.OpExecutionContext) -> Lane:
    """Return the lane whose share of the call budget a run may use."""
    return read_lane_of_run(context.run)


def _named(text: str) -> Lane | None:
    return next((lane for lane in get_args(Lane) if lane == text), None)
