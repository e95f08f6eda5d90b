"""First syncs of new partners: a run for each of a few, one shared run for many.

Each run is a process that takes seconds to start, so a thousand runs would take an hour. A shared run is the job of the
nightly with another list of partners. dagster.yaml lets one shared run be active at once, so that the other place of the
lane is always free for a partner that is entered by hand meanwhile.
"""

import datetime as dt
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import dagster as dg

from rsu_pipeline.orchestration.batch import sync_batch
from rsu_pipeline.orchestration.jobs import sync_partner
from rsu_pipeline.orchestration.run_tags import FIRST_SYNC_TAG

SHARED = "shared"
"""Value of FIRST_SYNC_TAG of a run for several partners. Its config names them."""
MAX_SINGLE_RUNS = 3
"""Partners at one tick that get a run each. Those entered by hand do, also while a shared run is active."""
RETRY_SECONDS = 60.0
"""How long after a first sync that ended without a trace the next is requested. Doubles each time, up to an hour."""


@dataclass(frozen=True)
class FirstSync:
    """The first sync of a partner with its present key and secret."""

    key: str
    entered_at: dt.datetime | None

    @property
    def entered(self) -> str:
        return f"{self.entered_at:%Y%m%dT%H%M%S.%f}"

    @property
    def name(self) -> str:
        return f"first:{self.key}:{self.entered}"


def request_first_syncs(instance: dg.DagsterInstance, wanted: Sequence[FirstSync], now: float) -> list[dg.RunRequest]:
    """Return one run per entered key and secret, however often the sensor ticks.

    Another run is requested, after a delay, if that one ended before it tried anything (killed, or the secret could not be
    decrypted).
    """
    if not wanted:
        return []
    ended = _read_attempts(instance, wanted)
    due = {item: len(ended[item.name]) for item in wanted if _is_due(ended[item.name], now)}
    if len(due) <= MAX_SINGLE_RUNS:
        return [_single(item, tries) for item, tries in due.items()]
    return [_shared(due)]


def _read_attempts(instance: dg.DagsterInstance, wanted: Sequence[FirstSync]) -> dict[str, list[float | None]]:
    """Return when the earlier runs of each first sync ended, None for an active one, by one query for all."""
    names = {item.name for item in wanted}
    ended: dict[str, list[float | None]] = {name: [] for name in names}
    for record in instance.get_run_records(dg.RunsFilter(tags={FIRST_SYNC_TAG: [SHARED, *sorted(names)]})):
        run = record.dagster_run
        tag = run.tags[FIRST_SYNC_TAG]
        if tag != SHARED:
            ended[tag].append(record.end_time)
        elif run.job_name == sync_batch.name:  # other jobs ignore what is entered for this one
            config: Any = run.run_config
            entered: dict[str, str] = config["ops"]["sync_partners"]["config"].get("first_syncs", {})
            for name in names.intersection(f"first:{key}:{at}" for key, at in entered.items()):
                ended[name].append(record.end_time)
    return ended


def _is_due(ended: Sequence[float | None], now: float) -> bool:
    delay = min(RETRY_SECONDS * 2 ** (len(ended) - 1), 3600.0)
    return all(at is not None and now >= at + delay for at in ended)


def _single(item: FirstSync, tries: int) -> dg.RunRequest:
    return dg.RunRequest(
        run_key=f"{item.name}:{tries + 1}" if tries else item.name,
        job_name=sync_partner.name,
        partition_key=item.key,
        tags={"lane": "new_partner", "partner": item.key, FIRST_SYNC_TAG: item.name},
    )


def _shared(due: Mapping[FirstSync, int]) -> dg.RunRequest:
    tries = "\n".join(sorted(f"{item.name}:{tries + 1}" for item, tries in due.items()))
    keys = [item.key for item in due]
    config = {"partners": keys, "relist": keys, "first_syncs": {item.key: item.entered for item in due}}
    return dg.RunRequest(
        run_key=f"first:{hashlib.sha256(tries.encode()).hexdigest()}",
        job_name=sync_batch.name,
        run_config={"ops": {"sync_partners": {"config": config}}},
        tags={"lane": "new_partner", FIRST_SYNC_TAG: SHARED},
    )
