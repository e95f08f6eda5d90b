-- The progress of requested backfills. See sql_files.py for the form.

-- name: read_progress
-- Count what the backfills of one partner, or of all if `partner` is NULL, have read and have left.
WITH {RACES_LEFT}, past AS (
    SELECT l.timing_partner_id, count(*) AS events,
        count(*) FILTER (WHERE d.state = 'loaded' OR d.state IS NULL AND k.event_id IS NOT NULL) AS loaded,
        count(*) FILTER (WHERE d.state = 'empty') AS empty, count(*) FILTER (WHERE d.state = 'unavailable') AS unavailable,
        count(u.event_id) AS unconfirmed,
        sum(n.registrations)::bigint AS registrations
    {PAST_EVENTS}
    LEFT JOIN event_cursors n ON n.timing_partner_id = l.timing_partner_id AND n.event_id = e.event_id
    WHERE (:partner::integer IS NULL OR l.timing_partner_id = :partner)
    GROUP BY l.timing_partner_id
)
SELECT q.timing_partner_id, t.partition_key, q.since_year, q.requested_at, q.finished_at, q.cancelled_at, q.not_before, seen.races,
    seen.races - coalesce(o.races, 0), failed.races, failed.retry_at, coalesce(p.events, 0), coalesce(p.loaded, 0),
    coalesce(p.empty, 0), coalesce(p.unavailable, 0), coalesce(p.unconfirmed, 0), coalesce(p.registrations, 0), calls.n
FROM history_requests q
JOIN timing_partners t USING (timing_partner_id)
LEFT JOIN past p USING (timing_partner_id)
LEFT JOIN (SELECT timing_partner_id, count(*) AS races FROM races_left GROUP BY 1) o USING (timing_partner_id)
CROSS JOIN LATERAL (
    SELECT count(*) AS races FROM partner_races l
    WHERE l.timing_partner_id = q.timing_partner_id AND l.lost_at IS NULL
) seen
CROSS JOIN LATERAL (
    SELECT count(*) AS races, min(h.retry_at) AS retry_at FROM history_races h
    WHERE h.timing_partner_id = q.timing_partner_id AND h.error IS NOT NULL
) failed
CROSS JOIN LATERAL (
    SELECT count(*) AS n
    FROM api_calls a JOIN partner_provider_credentials c ON c.partner_provider_credential_id = a.credential_id
    WHERE c.timing_partner_id = q.timing_partner_id AND a.lane = 'backfill' AND a.granted_at >= q.requested_at
) calls
WHERE :partner::integer IS NULL OR q.timing_partner_id = :partner;
