-- The health of the whole fleet. See sql_files.py for the form.

-- name: credential
-- The partners' credentials c.
(SELECT c.*, c.principal ~ '\S' AND c.secret ~ '\S' AS is_complete
 FROM partner_provider_credentials c JOIN providers v USING (provider_id) WHERE lower(v.name) = :'provider') c

-- name: ahead
-- Whether an event is due for reads, of a race that is listed or can be read, as in fleet.races_to_read.
l.lost_at IS NULL AND e.gone_at IS NULL
    AND ({IS_UPCOMING} OR {NEEDS_CLOSING_READ})

-- name: read_partner_health
-- Return every partner in figures, in order of id, disabled ones included.
WITH ahead AS (
    SELECT l.timing_partner_id, l.race_id, count(*) AS events, min(k.last_read_at) AS first_read_at,
        max(k.last_read_at) AS last_read_at
    FROM partner_races l
    JOIN runsignup_events e ON e.race_id = l.race_id
    LEFT JOIN event_cursors k ON k.timing_partner_id = l.timing_partner_id AND k.event_id = e.event_id
    WHERE {AHEAD}
    GROUP BY l.timing_partner_id, l.race_id
), races AS (
    SELECT a.timing_partner_id, count(*) AS races, sum(a.events) AS events, max(a.last_read_at) AS last_read_at,
        count(*) FILTER (WHERE tried.status = 'failed' AND coalesce(tried.finished_at > a.first_read_at, true)) AS failures
    FROM ahead a
    LEFT JOIN LATERAL (
        SELECT h.finished_at, h.status FROM sync_history h
        WHERE h.timing_partner_id = a.timing_partner_id AND h.race_id = a.race_id
            AND h.operation_type IS DISTINCT FROM 'history'
        ORDER BY h.finished_at DESC LIMIT 1
    ) tried ON true
    GROUP BY a.timing_partner_id
), stored AS (
    SELECT p.timing_partner_id, count(*) FILTER (WHERE p.removed_at IS NULL) AS active,
        count(*) FILTER (WHERE p.changed_at > :'now'::timestamptz - interval '24 hours') AS changed
    FROM runsignup_participants p GROUP BY p.timing_partner_id
), quarantine AS (
    SELECT q.timing_partner_id, count(*) FILTER (WHERE NOT q.is_stored) AS held_back,
        count(*) FILTER (WHERE q.is_stored) AS with_faults
    FROM quarantined_rows q WHERE q.resolved_at IS NULL GROUP BY q.timing_partner_id
), bibs AS (
    SELECT b.timing_partner_id, count(*) AS bibs, max(b.seconds) AS slowest,
        percentile_cont(0.95) WITHIN GROUP (ORDER BY b.seconds) AS p95
    FROM (
        SELECT timing_partner_id, (greatest(extract(epoch FROM recorded_at), modified_epoch) - modified_epoch)::float AS seconds
        FROM runsignup_bib_changes WHERE recorded_at > :'now'::timestamptz - interval '24 hours' AND recorded_at <= :'now'::timestamptz
    ) b
    GROUP BY b.timing_partner_id
), past AS (
    SELECT l.timing_partner_id, count(*) AS events,
        count(*) FILTER (WHERE d.event_id IS NOT NULL OR k.event_id IS NOT NULL) AS settled
    {PAST_EVENTS}
    GROUP BY l.timing_partner_id
), past_failures AS (
    SELECT h.timing_partner_id, count(*) AS failures FROM history_races h WHERE h.error IS NOT NULL
    GROUP BY h.timing_partner_id
)
SELECT t.timing_partner_id, t.partition_key,
    CASE WHEN t.disabled_at IS NOT NULL THEN 'off' WHEN c.timing_partner_id IS NULL THEN 'none'
        WHEN c.is_complete IS NOT TRUE THEN 'incomplete' WHEN c.rejected_at IS NOT NULL THEN 'refused'
        WHEN c.verified_at IS NOT NULL THEN 'works' WHEN EXISTS (
            SELECT FROM sync_history n WHERE n.timing_partner_id = t.timing_partner_id AND n.finished_at >= c.entered_at)
        THEN 'unverified' ELSE 'untried' END,
    coalesce(r.races, 0), coalesce(r.events, 0)::bigint, greatest(good.finished_at, r.last_read_at),
    coalesce(r.failures, 0) + coalesce(f.failures, 0) + (listed.status IS NOT DISTINCT FROM 'failed')::int,
    CASE WHEN c.timing_partner_id IS NOT NULL THEN {CALL_BUDGET} END, calls.n,
    coalesce(s.active, 0), coalesce(s.changed, 0), coalesce(q.held_back, 0), coalesce(q.with_faults, 0),
    coalesce(b.bibs, 0), b.p95, b.slowest,
    CASE WHEN h.timing_partner_id IS NOT NULL THEN coalesce(p.events, 0) END,
    CASE WHEN h.timing_partner_id IS NOT NULL THEN coalesce(p.settled, 0) END,
    CASE WHEN h.timing_partner_id IS NOT NULL AND h.cancelled_at IS NULL THEN h.finished_at IS NOT NULL AND f.failures IS NULL
        AND coalesce(p.events, 0) = coalesce(p.settled, 0) END
FROM timing_partners t
LEFT JOIN {CREDENTIAL} USING (timing_partner_id)
LEFT JOIN races r USING (timing_partner_id)
LEFT JOIN stored s USING (timing_partner_id)
LEFT JOIN quarantine q USING (timing_partner_id)
LEFT JOIN bibs b USING (timing_partner_id)
LEFT JOIN history_requests h USING (timing_partner_id)
LEFT JOIN past p USING (timing_partner_id)
LEFT JOIN past_failures f USING (timing_partner_id)
LEFT JOIN LATERAL (
    SELECT n.finished_at FROM sync_history n
    WHERE n.timing_partner_id = t.timing_partner_id AND n.status IN ('completed', 'partial') AND n.race_id IS NOT NULL
    ORDER BY n.finished_at DESC LIMIT 1
) good ON true
LEFT JOIN LATERAL (
    SELECT n.status FROM sync_history n WHERE n.timing_partner_id = t.timing_partner_id AND n.race_id IS NULL
    ORDER BY n.finished_at DESC LIMIT 1
) listed ON true
CROSS JOIN LATERAL (
    SELECT count(*) AS n FROM api_calls a
    WHERE (a.api_key_id = c.api_key_id
        OR a.api_key_id IS NULL AND a.credential_id = c.partner_provider_credential_id)
        AND a.granted_at > :'now'::timestamptz - interval '1 hour'
) calls
ORDER BY t.timing_partner_id;

-- name: read_event_reads
-- Return every event that is upcoming or due for a closing read, of every partner to sync.
SELECT t.timing_partner_id, t.partition_key, {CALL_BUDGET}, l.race_id, e.event_id, e.starts_at, e.ends_at, k.last_read_at,
    greatest(l.listed_at, e.created_at AT TIME ZONE current_setting('TimeZone'), c.entered_at),
    coalesce(k.registrations, 0), k.event_id IS NULL OR k.needs_full IS NOT NULL
FROM timing_partners t
JOIN {CREDENTIAL} USING (timing_partner_id)
JOIN partner_races l USING (timing_partner_id)
JOIN runsignup_events e ON e.race_id = l.race_id
LEFT JOIN event_cursors k ON k.timing_partner_id = l.timing_partner_id AND k.event_id = e.event_id
WHERE t.disabled_at IS NULL AND t.partition_key IS NOT NULL AND c.is_complete AND {AHEAD}
ORDER BY t.timing_partner_id, l.race_id, e.event_id;

-- name: list_synced_partners
-- Return the partners whose races were listed and whose upcoming events were all read, or are of a race that just failed.
SELECT t.timing_partner_id FROM timing_partners t
WHERE EXISTS (
    SELECT FROM sync_history h WHERE h.timing_partner_id = t.timing_partner_id AND h.status IN ('completed', 'partial'))
AND NOT EXISTS (
    SELECT FROM partner_races l
    JOIN runsignup_events e ON e.race_id = l.race_id
    LEFT JOIN event_cursors k ON k.timing_partner_id = l.timing_partner_id AND k.event_id = e.event_id
    WHERE l.timing_partner_id = t.timing_partner_id AND k.event_id IS NULL AND {AHEAD}
        AND NOT EXISTS (
            SELECT FROM sync_history h
            WHERE h.timing_partner_id = l.timing_partner_id AND h.race_id = l.race_id AND h.status = 'failed'
                AND h.operation_type IS DISTINCT FROM 'history'));

-- name: count_bibs_by_hour
-- Count the bib changes of each of the last 24 hours, with their 95th percentile of seconds.
SELECT date_trunc('hour', recorded_at) AS hour, count(*), percentile_cont(0.95) WITHIN GROUP
    (ORDER BY (greatest(extract(epoch FROM recorded_at), modified_epoch) - modified_epoch)::float)
FROM runsignup_bib_changes WHERE recorded_at > :'now'::timestamptz - interval '24 hours' AND recorded_at <= :'now'::timestamptz
GROUP BY hour ORDER BY hour;
