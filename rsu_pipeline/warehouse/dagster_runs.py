"""Read from Dagster's tables which runs failed and which make no progress, without loading Dagster.

A failed run is made good when its work is done by any later run: its assets were materialized since, the partners of its
batch were synced since, or its job succeeded since with the same partition and shard.
"""

import datetime as dt
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from psycopg2.extensions import connection as Connection

from rsu_pipeline.sql_files import load
from rsu_pipeline.warehouse.credentials import PROVIDER

_SQL = load(__file__)

RUNS_READ = 200
"""Failed or waiting runs that one evaluation reads: the newest of the failed and the oldest of the waiting."""


@dataclass(frozen=True)
class FailedRun:
    """A run that failed.

    Attributes:
        partition: partition key, None if the run has none.
        shard: number of the shard that the run watched, None if it watched none.
        assets: names of the assets that it should have materialized and did not, as Dagster stores them.
        will_retry: whether Dagster scheduled a retry. `is_retried`: whether the retry was launched.
        is_made_good: whether its work has been done since.
    """

    run_id: str
    job: str
    partition: str | None
    shard: str | None
    ended_at: dt.datetime
    assets: list[str]
    will_retry: bool
    is_retried: bool
    is_made_good: bool


@dataclass(frozen=True)
class UnfinishedRun:
    """A run that is queued or active. `last_event_at` is when it last logged anything, or since when it is queued."""

    run_id: str
    job: str
    partition: str | None
    lane: str
    status: str
    last_event_at: dt.datetime


def read_failed_runs(conn: Connection, since: dt.datetime, known: Collection[str]) -> list[FailedRun]:
    """Return the runs that failed since then, and those of these ids whenever they failed, newest first."""
    with conn.cursor() as cur:
        cur.execute(
            _SQL["read_failed_runs"], {"since": since, "known": list(known), "limit": RUNS_READ, "provider": PROVIDER}
        )
        return [FailedRun(*row) for row in cur.fetchall()]


def read_unfinished_runs(conn: Connection) -> list[UnfinishedRun]:
    """Return the runs that are queued or active, oldest first."""
    with conn.cursor() as cur:
        cur.execute(_SQL["read_unfinished_runs"], {"limit": RUNS_READ})
        return [UnfinishedRun(*row) for row in cur.fetchall()]


def find_partners_without_run(conn: Connection, keys: Sequence[str], *, in_batches: bool) -> list[str]:
    """Return those of these partition keys for which no run is queued or active. With `in_batches` a batch counts too."""
    with conn.cursor() as cur:
        cur.execute(_SQL["find_partners_without_run"], {"keys": list(keys), "in_batches": in_batches})
        return [key for (key,) in cur.fetchall()]


def count_slices_queued_since(conn: Connection, since: dt.datetime) -> int:
    """Return how many slices of backfills are queued, or were at some moment since then."""
    with conn.cursor() as cur:
        cur.execute(_SQL["count_slices_queued_since"], {"since": since})
        ((found,),) = cur.fetchall()
    return int(found)
