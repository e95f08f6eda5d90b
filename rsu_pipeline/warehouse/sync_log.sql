-- The sync log, and partners at a glance. See sql_files.py for the form.

-- name: record
-- Write one row of the log.
INSERT INTO sync_history (timing_partner_id, provider_id, event_id, operation_type, sync_direction,
    sync_time, status, num_of_synced_records, entries_success, entries_failed, error_details,
    data_snapshot, duration_seconds, reason, race_id, event_ids, run_id)
VALUES (:partner, (SELECT min(provider_id) FROM providers WHERE lower(name) = :'provider'), :'event',
    :'operation', 'pull', localtimestamp - make_interval(secs => :seconds), :'status', :read,
    :success, :'failed', :'error', :'counts', round(:seconds), :'reason', :race,
    :'events'::bigint[], :'run');

-- name: read_partner_status
-- Return every partner at a glance, in order of id.
SELECT t.timing_partner_id, t.partition_key, t.company_name,
    (SELECT count(*) FROM partner_races l WHERE l.timing_partner_id = t.timing_partner_id),
    (SELECT count(*) FROM partner_races l JOIN runsignup_events e USING (race_id)
     WHERE l.timing_partner_id = t.timing_partner_id AND e.gone_at IS NULL),
    (SELECT count(*) FROM future_events f WHERE f.timing_partner_id = t.timing_partner_id
        AND (f.over_at IS NULL OR f.over_at > now())),
    (SELECT count(*) FROM runsignup_participants p
     WHERE p.timing_partner_id = t.timing_partner_id AND p.removed_at IS NULL),
    (SELECT count(*) FROM quarantined_rows q
     WHERE q.timing_partner_id = t.timing_partner_id AND q.resolved_at IS NULL),
    greatest(good.finished_at, cursors.last_read_at), bad.reason, bad.finished_at,
    (SELECT count(*) FROM api_calls a JOIN partner_provider_credentials c
        ON c.api_key_id = a.api_key_id
            OR a.api_key_id IS NULL AND c.partner_provider_credential_id = a.credential_id
     WHERE c.timing_partner_id = t.timing_partner_id AND a.granted_at > now() - interval '1 hour')
FROM timing_partners t
-- Polls of the watch that find nothing leave no row in the log. The cursors have them.
LEFT JOIN LATERAL (
    SELECT max(k.last_read_at) AS last_read_at FROM event_cursors k
    WHERE k.timing_partner_id = t.timing_partner_id) cursors ON true
LEFT JOIN LATERAL (
    SELECT h.finished_at FROM sync_history h
    WHERE h.timing_partner_id = t.timing_partner_id AND h.status IN ('completed', 'partial')
        AND h.race_id IS NOT NULL
    ORDER BY h.finished_at DESC LIMIT 1) good ON true
LEFT JOIN LATERAL (
    SELECT h.reason, h.finished_at FROM sync_history h
    WHERE h.timing_partner_id = t.timing_partner_id AND h.status = 'failed'
        AND NOT EXISTS (
            SELECT FROM partner_races l
            WHERE l.timing_partner_id = h.timing_partner_id AND l.race_id = h.race_id AND l.lost_at IS NOT NULL)
        AND NOT EXISTS (
            SELECT FROM sync_history n
            WHERE n.timing_partner_id = h.timing_partner_id AND n.race_id IS NOT DISTINCT FROM h.race_id
                AND n.finished_at > h.finished_at AND n.status <> 'failed')
    ORDER BY h.finished_at DESC LIMIT 1) bad ON true
ORDER BY t.timing_partner_id;

-- name: read_log
-- Return the newest rows of the log, newest first.
SELECT t.partition_key, h.race_id, r.name, coalesce(h.operation_type, ''), h.status, coalesce(h.reason, ''),
    h.finished_at, coalesce(h.duration_seconds, 0), coalesce(h.data_snapshot, '{}'), h.run_id
FROM sync_history h
LEFT JOIN timing_partners t USING (timing_partner_id)
LEFT JOIN runsignup_races r ON r.race_id = h.race_id
WHERE (:partner::int IS NULL OR h.timing_partner_id = :partner)
    AND (:race::bigint IS NULL OR h.race_id = :race)
    AND (NOT :'failed' OR h.status = 'failed')
    AND (NOT :'changed' OR EXISTS (
        SELECT FROM jsonb_each(h.data_snapshot) n
        WHERE n.key = ANY (:'changes'::text[]) AND n.value NOT IN ('0', 'null')))
ORDER BY h.finished_at DESC, h.sync_history_id DESC LIMIT :limit;
