"""Read from Dagster's tables which runs failed and which make no progress, without loading Dagster.

A failed run is made good when its work is done by any later run: its assets were materialized since, the partners of its
batch were synced since, or its job succeeded since with the same partition and shard.
"""

import datetime as dt
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from psycopg2.extensions import connection as Connection

from rsu_pipeline.warehouse.credentials import PROVIDER

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


_FAILED = r"""
WITH failed AS (
    SELECT r.id, r.run_id, r.pipeline_name AS job, r.partition,
        coalesce(to_timestamp(r.end_time), r.update_timestamp AT TIME ZONE 'UTC') AS ended_at,
        (SELECT t.value FROM dagster.run_tags t WHERE t.run_id = r.run_id AND t.key = 'watch_shard' LIMIT 1) AS shard,
        (SELECT d.id FROM dagster.run_tags t JOIN dagster.dynamic_partitions d ON d.partition = t.value
            AND d.partitions_def_name = 'timing_partner'
         WHERE t.run_id = r.run_id AND t.key = 'dagster/asset_partition_range_start') AS first_partition,
        (SELECT d.id FROM dagster.run_tags t JOIN dagster.dynamic_partitions d ON d.partition = t.value
            AND d.partitions_def_name = 'timing_partner'
         WHERE t.run_id = r.run_id AND t.key = 'dagster/asset_partition_range_end') AS last_partition,
        EXISTS (SELECT FROM dagster.run_tags t WHERE t.run_id = r.run_id AND t.key = 'dagster/will_retry' AND t.value = 'true')
            AS will_retry,
        EXISTS (SELECT FROM dagster.run_tags t WHERE t.run_id = r.run_id AND t.key = 'dagster/auto_retry_run_id') AS is_retried,
        CASE WHEN r.pipeline_name = 'sync_batch' THEN r.run_body::jsonb #> '{run_config,ops,sync_partners,config,partners}' END
            AS partners
    FROM dagster.runs r
    WHERE r.status = 'FAILURE' AND (r.update_timestamp > %(since)s AT TIME ZONE 'UTC' OR r.run_id = ANY (%(known)s))
    ORDER BY r.id DESC LIMIT %(limit)s
), missing AS (
    SELECT f.run_id, p.asset_key, k.partition, EXISTS (
            SELECT FROM dagster.event_logs m
            WHERE m.asset_key = p.asset_key AND m.dagster_event_type = 'ASSET_MATERIALIZATION'
                AND m.partition IS NOT DISTINCT FROM k.partition AND m.id > p.id AND m.run_id <> f.run_id
                AND m.timestamp AT TIME ZONE 'UTC' >= f.ended_at) AS is_done
    FROM failed f JOIN dagster.event_logs p ON p.run_id = f.run_id AND p.dagster_event_type = 'ASSET_MATERIALIZATION_PLANNED'
    -- A run for several partners plans each asset once, for a range of partitions.
    CROSS JOIN LATERAL (
        SELECT p.partition WHERE f.first_partition IS NULL OR p.partition IS NOT NULL
        UNION ALL
        SELECT d.partition FROM dagster.dynamic_partitions d
        WHERE p.partition IS NULL AND d.partitions_def_name = 'timing_partner'
            AND d.id BETWEEN f.first_partition AND f.last_partition
    ) k
    WHERE NOT EXISTS (
        SELECT FROM dagster.event_logs m WHERE m.run_id = f.run_id AND m.dagster_event_type = 'ASSET_MATERIALIZATION'
            AND m.asset_key = p.asset_key AND m.partition IS NOT DISTINCT FROM k.partition)
), assets AS (
    SELECT run_id, array_agg(DISTINCT asset_key::text ORDER BY asset_key::text) AS names, bool_and(is_done) AS are_done
    FROM missing GROUP BY run_id
)
SELECT f.run_id, f.job, f.partition, f.shard, f.ended_at, coalesce(a.names, '{}'), f.will_retry, f.is_retried,
    coalesce(a.are_done, false)
    OR CASE
        WHEN jsonb_array_length(f.partners) > 0 THEN NOT EXISTS (
            SELECT FROM timing_partners t JOIN partner_provider_credentials c USING (timing_partner_id)
            JOIN providers v ON v.provider_id = c.provider_id AND lower(v.name) = %(provider)s
            WHERE f.partners ? t.partition_key::text AND t.disabled_at IS NULL AND c.rejected_at IS NULL AND NOT EXISTS (
                SELECT FROM sync_history h WHERE h.timing_partner_id = t.timing_partner_id AND h.status <> 'failed'
                    AND h.finished_at > f.ended_at))
        WHEN f.job NOT LIKE '\_\_ASSET\_JOB%%' THEN EXISTS (
            SELECT FROM dagster.runs w WHERE w.pipeline_name = f.job AND w.status = 'SUCCESS' AND w.id > f.id
                AND w.partition IS NOT DISTINCT FROM f.partition
                AND (SELECT t.value FROM dagster.run_tags t WHERE t.run_id = w.run_id AND t.key = 'watch_shard' LIMIT 1)
                    IS NOT DISTINCT FROM f.shard)
        ELSE false END
FROM failed f LEFT JOIN assets a USING (run_id) ORDER BY f.id DESC
"""


def read_failed_runs(conn: Connection, since: dt.datetime, known: Collection[str]) -> list[FailedRun]:
    """Return the runs that failed since then, and those of these ids whenever they failed, newest first."""
    with conn.cursor() as cur:
        cur.execute(_FAILED, {"since": since, "known": list(known), "limit": RUNS_READ, "provider": PROVIDER})
        return [FailedRun(*row) for row in cur.fetchall()]


def read_unfinished_runs(conn: Connection) -> list[UnfinishedRun]:
    """Return the runs that are queued or active, oldest first."""
    with conn.cursor() as cur:
        cur.execute(
            """
            SELECT r.run_id, r.pipeline_name, r.partition,
                coalesce((SELECT t.value FROM dagster.run_tags t WHERE t.run_id = r.run_id AND t.key = 'lane' LIMIT 1),
                    'routine'), r.status,
                coalesce(CASE WHEN r.status <> 'QUEUED' THEN
                    (SELECT e.timestamp FROM dagster.event_logs e WHERE e.run_id = r.run_id ORDER BY e.id DESC LIMIT 1) END,
                    r.update_timestamp) AT TIME ZONE 'UTC'
            FROM dagster.runs r WHERE r.status IN ('QUEUED', 'STARTING', 'STARTED', 'CANCELING')
            ORDER BY r.id LIMIT %s
            """,
            (RUNS_READ,),
        )
        return [UnfinishedRun(*row) for row in cur.fetchall()]


def find_partners_without_run(conn: Connection, keys: Sequence[str], *, in_batches: bool) -> list[str]:
    """Return those of these partition keys for which no run is queued or active. With `in_batches` a batch counts too."""
    with conn.cursor() as cur:
        cur.execute(
            """
            WITH active AS MATERIALIZED (
                SELECT partition, CASE WHEN %(in_batches)s AND pipeline_name = 'sync_batch'
                    THEN run_body::jsonb #> '{run_config,ops,sync_partners,config,partners}' END AS partners
                FROM dagster.runs WHERE status IN ('QUEUED', 'NOT_STARTED', 'STARTING', 'STARTED', 'CANCELING')
            ), busy AS (
                SELECT partition AS key FROM active
                UNION SELECT jsonb_array_elements_text(partners) FROM active WHERE jsonb_typeof(partners) = 'array'
            )
            SELECT k.key FROM unnest(%(keys)s::text[]) WITH ORDINALITY AS k (key, place)
            WHERE NOT EXISTS (SELECT FROM busy b WHERE b.key = k.key) ORDER BY k.place
            """,
            {"keys": list(keys), "in_batches": in_batches},
        )
        return [key for (key,) in cur.fetchall()]
