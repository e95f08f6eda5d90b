-- What the fleet has to read. See sql_files.py for the form.

-- name: select_partners_to_sync
-- Select every partner to sync, with its last attempt.
SELECT t.timing_partner_id, t.partition_key, tried.finished_at, coalesce(tried.status = 'failed', false)
{ACTIVE}
LEFT JOIN LATERAL (
    SELECT h.finished_at, h.status FROM sync_history h
    WHERE h.timing_partner_id = t.timing_partner_id AND h.race_id IS NULL AND h.finished_at <= :'tolerated'::timestamptz
    ORDER BY h.finished_at DESC LIMIT 1
) tried ON true
WHERE {IS_ACTIVE}
ORDER BY t.timing_partner_id;

-- name: select_races_to_read
-- Select every race with an event that is upcoming, or over and due for a closing read.
SELECT r.timing_partner_id, r.partition_key, r.call_budget_id, r.race_id, r.starts, r.ends, r.event_ids, r.read_at,
    tried.finished_at, tried.event_ids,
    coalesce(tried.status = 'failed' AND coalesce(tried.finished_at > r.last_read_at, true), false),
    r.registrations
FROM (
    SELECT t.timing_partner_id, t.partition_key, min({CALL_BUDGET}) AS call_budget_id, l.race_id,
        array_agg(e.starts_at ORDER BY e.event_id) AS starts, array_agg(e.ends_at ORDER BY e.event_id) AS ends,
        array_agg(e.event_id ORDER BY e.event_id) AS event_ids,
        -- The watch's looks are told by the cursors only: those that find nothing leave no history.
        array_agg(k.last_read_at ORDER BY e.event_id) AS read_at,
        min(k.last_read_at) AS last_read_at,
        array_agg(coalesce(k.registrations, 0) ORDER BY e.event_id) AS registrations
    {ACTIVE}
    JOIN partner_races l USING (timing_partner_id)
    JOIN runsignup_events e ON e.race_id = l.race_id
    LEFT JOIN event_cursors k ON k.timing_partner_id = l.timing_partner_id AND k.event_id = e.event_id
    WHERE {IS_ACTIVE} AND {IS_READ}
        AND {IS_DUE_AT_ANY}
    GROUP BY t.timing_partner_id, l.race_id
) r
LEFT JOIN LATERAL (
    SELECT h.finished_at, h.status, h.event_ids FROM sync_history h
    WHERE h.timing_partner_id = r.timing_partner_id AND h.race_id = r.race_id
        AND h.operation_type IS DISTINCT FROM 'history' AND h.finished_at <= :'tolerated'::timestamptz
    ORDER BY h.finished_at DESC LIMIT 1
) tried ON true
ORDER BY r.timing_partner_id, r.race_id;

-- name: has_race_in_window
-- Return whether a race that the watch polls is in its window, or enters it within some seconds.
SELECT EXISTS (
    SELECT
    {ACTIVE}
    JOIN partner_races l USING (timing_partner_id)
    JOIN runsignup_events e ON e.race_id = l.race_id
    WHERE {IS_ACTIVE} AND {IS_READ}
        AND (:api_key::int IS NULL OR c.api_key_id = :api_key)
        AND ({IS_IN_WINDOW} OR {IS_ABOUT_TO_BE})
);
