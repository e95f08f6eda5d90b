-- Whether what a full read received equals what is stored. See sql_files.py for the form.

-- name: read_reconciliations
-- Return the last comparison of each of a partner's upcoming events that was ever read in full.
SELECT c.event_id, c.read_rows, c.stored_rows, {VERDICT}
FROM event_cursors c JOIN future_events f USING (timing_partner_id, event_id)
WHERE c.timing_partner_id = :partner AND c.compared_at IS NOT NULL
ORDER BY c.event_id;

-- name: compare
-- Record for each event what a full pass received and what is stored, and return whether they are equal.
WITH stored AS MATERIALIZED (
    SELECT e.id AS event_id, s.rows, s.hash
    FROM unnest(:'events'::bigint[]) AS e (id) CROSS JOIN LATERAL (
        SELECT count(*) AS rows, sum({ROW_HASH}) AS hash FROM runsignup_participants t
        -- `+ 0` as in participants.note_missing.
        WHERE t.timing_partner_id + 0 = :partner AND t.event_id = e.id AND t.removed_at IS NULL
    ) s
),
sides AS (
    SELECT e.event_id, coalesce(r.rows, 0) AS read_rows, coalesce(r.hash, 0) AS read_hash,
        coalesce(s.rows, 0) AS stored_rows, coalesce(s.hash, 0) AS stored_hash
    FROM unnest(:'events'::bigint[]) AS e (event_id)
    LEFT JOIN pass_counts r ON r.timing_partner_id = :partner AND r.race_id = :race AND r.mode = :'mode'
        AND r.event_id = e.event_id
    LEFT JOIN stored s ON s.event_id = e.event_id
)
UPDATE event_cursors c
SET registrations = s.stored_rows, read_rows = s.read_rows, read_hash = s.read_hash, stored_rows = s.stored_rows, stored_hash = s.stored_hash,
    compared_at = now(),
    proved_equal_at = CASE WHEN {IS_EQUAL} THEN now()
        ELSE c.proved_equal_at END
FROM sides s
WHERE c.timing_partner_id = :partner AND c.event_id = s.event_id
    AND (NOT :'resumed' OR {IS_EQUAL})
RETURNING c.event_id, {IS_EQUAL};
