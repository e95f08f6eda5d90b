-- Dagster's sensors, schedules and queue. Dagster stores times without a zone, in UTC. See sql_files.py for the form.

-- name: read_automations
-- Return the sensors and schedules of these names that the daemon knows.
SELECT i.name, i.status <> 'STOPPED', i.create_timestamp AT TIME ZONE 'UTC', i.update_timestamp AT TIME ZONE 'UTC',
    last.timestamp AT TIME ZONE 'UTC', failing.since AT TIME ZONE 'UTC'
FROM (SELECT *, instigator_body::jsonb #>> '{origin,job_name}' AS name FROM dagster.instigators) i
LEFT JOIN LATERAL (
    SELECT t.timestamp, t.status FROM dagster.job_ticks t
    WHERE t.selector_id = i.selector_id AND t.status <> 'STARTED' ORDER BY t.timestamp DESC LIMIT 1
) last ON true
LEFT JOIN LATERAL (
    SELECT min(t.timestamp) AS since FROM dagster.job_ticks t
    WHERE last.status = 'FAILURE' AND t.selector_id = i.selector_id AND t.status = 'FAILURE'
        AND t.timestamp > coalesce((SELECT max(g.timestamp) FROM dagster.job_ticks g
            WHERE g.selector_id = i.selector_id AND g.status IN ('SUCCESS', 'SKIPPED')), '-infinity')
) failing ON true
WHERE i.name = ANY (:'names'::text[])
ORDER BY i.update_timestamp;

-- name: find_runs_waiting
-- Return by lane the runs that wait in the queue since then though no run of their lane or partition is active.
WITH tagged AS (
    SELECT r.run_id, r.status, r.partition,
        -- A run that goes back into the queue again and again waits since it came there first.
        coalesce(CASE WHEN r.status = 'QUEUED' THEN (
            SELECT min(e.timestamp) FROM dagster.event_logs e
            WHERE e.run_id = r.run_id AND e.dagster_event_type = 'PIPELINE_ENQUEUED' HAVING count(*) > 2) END,
            r.update_timestamp) AT TIME ZONE 'UTC' AS since,
        coalesce((SELECT t.value FROM dagster.run_tags t WHERE t.run_id = r.run_id AND t.key = 'lane' LIMIT 1),
            'routine') AS lane
    FROM dagster.runs r WHERE r.status IN ('QUEUED', 'NOT_STARTED', 'STARTING', 'STARTED', 'CANCELING')
)
SELECT q.lane, count(*), min(q.since) FROM tagged q
WHERE q.status = 'QUEUED' AND q.since < :'since'::timestamptz AND NOT EXISTS (
    SELECT FROM tagged w WHERE w.status <> 'QUEUED' AND (w.lane = q.lane OR w.partition = q.partition))
GROUP BY q.lane ORDER BY q.lane;
