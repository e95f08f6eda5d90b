-- Messages to webhooks. See sql_files.py for the form.

-- name: find_due_messages
-- Return the next messages of a webhook: pending ones without an earlier pending one of the same subject.
SELECT m.message_id, m.webhook_id, m.message_key::text, m.body::text, m.attempts
FROM webhook_messages m
WHERE m.webhook_id = :webhook AND m.delivered_at IS NULL AND m.dead_at IS NULL AND coalesce(m.retry_at <= clock_timestamp(), true)
    AND m.message_id <> ALL (:'busy'::bigint[])
    AND NOT EXISTS (
        SELECT FROM webhook_messages e
        WHERE e.webhook_id = :webhook AND e.subject = m.subject AND e.delivered_at IS NULL AND e.dead_at IS NULL
            AND e.message_id < m.message_id)
ORDER BY m.message_id
LIMIT :limit;

-- name: note_failure
-- Record a failed attempt, and when the next one may be made, or that there is none.
UPDATE webhook_messages SET attempts = attempts + 1, first_tried_at = coalesce(first_tried_at, clock_timestamp()),
    last_error = :'error', retry_at = clock_timestamp() + make_interval(secs => :wait),
    dead_at = CASE WHEN attempts + 1 >= :least AND first_tried_at <= clock_timestamp() - :'give_up'::interval THEN clock_timestamp() END
WHERE message_id = :message AND delivered_at IS NULL;
