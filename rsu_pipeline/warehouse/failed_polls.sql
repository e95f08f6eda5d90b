-- Polls of the watch that fail. See sql_files.py for the form.

-- name: read_failed_polls
-- Return the last failed poll of each of these races whose last read failed, with the cause.
-- Only the watch calls in lane race_day, so a failed call there shows that it polls. A failed sync of another lane does not.
-- A call whose answer could not be used did not fail itself: the failed read is logged right after it.
SELECT w.timing_partner_id, w.race_id, {CALL_BUDGET}, coalesce(poll.error, tried.cause, :'unnamed'), poll.settled_at
FROM unnest(:'partners'::int[], :'races'::bigint[]) AS w (timing_partner_id, race_id)
JOIN partner_provider_credentials c USING (timing_partner_id)
JOIN providers v ON v.provider_id = c.provider_id AND lower(v.name) = :'provider'
CROSS JOIN LATERAL (
    SELECT coalesce(max(k.last_read_at), '-infinity') AS read_at FROM event_cursors k
    WHERE k.timing_partner_id = w.timing_partner_id AND k.race_id = w.race_id
) good
CROSS JOIN LATERAL (
    SELECT h.status, h.finished_at, h.error_details ->> 'cause' AS cause FROM sync_history h
    WHERE h.timing_partner_id = w.timing_partner_id AND h.race_id = w.race_id
        AND h.operation_type IS DISTINCT FROM 'history'
    ORDER BY h.finished_at DESC LIMIT 1
) tried
CROSS JOIN LATERAL (
    SELECT a.error, a.settled_at FROM api_calls a
    WHERE a.credential_id = c.partner_provider_credential_id AND a.race_id = w.race_id AND a.lane = 'race_day'
        -- A refresh of the race's events is no poll.
        AND a.endpoint <> 'race' AND a.settled_at IS NOT NULL AND a.granted_at > good.read_at
        AND (a.error IS NOT NULL
            OR tried.finished_at BETWEEN a.granted_at AND a.settled_at + make_interval(secs => :logged_within))
    ORDER BY a.granted_at DESC LIMIT 1
) poll
WHERE tried.status = 'failed' AND tried.finished_at > good.read_at
ORDER BY 1, 2;
