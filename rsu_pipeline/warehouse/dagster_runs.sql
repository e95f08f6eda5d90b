-- Dagster's runs: which failed, and which make no progress. See sql_files.py for the form.

-- name: read_failed_runs
-- Return the runs that failed since then, and those of these ids whenever they failed, newest first, each with what it should
-- have done and whether that is done.
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
    WHERE r.status = 'FAILURE' AND (r.update_timestamp > :'since'::timestamptz AT TIME ZONE 'UTC' OR r.run_id = ANY (:'known'::text[]))
    ORDER BY r.id DESC LIMIT :limit
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
            JOIN providers v ON v.provider_id = c.provider_id AND lower(v.name) = :'provider'
            WHERE f.partners ? t.partition_key::text AND t.disabled_at IS NULL AND c.rejected_at IS NULL AND NOT EXISTS (
                SELECT FROM sync_history h WHERE h.timing_partner_id = t.timing_partner_id AND h.status <> 'failed'
                    AND h.finished_at > f.ended_at))
        WHEN f.job NOT LIKE '\_\_ASSET\_JOB%' THEN EXISTS (
            SELECT FROM dagster.runs w WHERE w.pipeline_name = f.job AND w.status = 'SUCCESS' AND w.id > f.id
                AND w.partition IS NOT DISTINCT FROM f.partition
                AND (SELECT t.value FROM dagster.run_tags t WHERE t.run_id = w.run_id AND t.key = 'watch_shard' LIMIT 1)
                    IS NOT DISTINCT FROM f.shard)
        ELSE false END
FROM failed f LEFT JOIN assets a USING (run_id) ORDER BY f.id DESC;

-- name: read_unfinished_runs
-- Return the runs that are queued or active, oldest first.
SELECT r.run_id, r.pipeline_name, r.partition,
    coalesce((SELECT t.value FROM dagster.run_tags t WHERE t.run_id = r.run_id AND t.key = 'lane' LIMIT 1),
        'routine'), r.status,
    coalesce(CASE WHEN r.status <> 'QUEUED' THEN
        (SELECT e.timestamp FROM dagster.event_logs e WHERE e.run_id = r.run_id ORDER BY e.id DESC LIMIT 1) END,
        r.update_timestamp) AT TIME ZONE 'UTC'
FROM dagster.runs r WHERE r.status IN ('QUEUED', 'STARTING', 'STARTED', 'CANCELING')
ORDER BY r.id LIMIT :limit;

-- name: find_partners_without_run
-- Return those of these partition keys for which no run is queued or active.
WITH active AS MATERIALIZED (
    SELECT partition, CASE WHEN :'in_batches' AND pipeline_name = 'sync_batch'
        THEN run_body::jsonb #> '{run_config,ops,sync_partners,config,partners}' END AS partners
    FROM dagster.runs WHERE status IN ('QUEUED', 'NOT_STARTED', 'STARTING', 'STARTED', 'CANCELING')
), busy AS (
    SELECT partition AS key FROM active
    UNION SELECT jsonb_array_elements_text(partners) FROM active WHERE jsonb_typeof(partners) = 'array'
)
SELECT k.key FROM unnest(:'keys'::text[]) WITH ORDINALITY AS k (key, place)
WHERE NOT EXISTS (SELECT FROM busy b WHERE b.key = k.key) ORDER BY k.place;

-- name: count_slices_queued_since
-- Count the slices of backfills that are queued, or were at some moment since then: Dagster has changed their runs.
SELECT count(*) FROM dagster.runs
WHERE pipeline_name = 'backfill_history' AND (status IN ('QUEUED', 'NOT_STARTED', 'STARTING')
    OR update_timestamp > :'since'::timestamptz AT TIME ZONE 'UTC');
