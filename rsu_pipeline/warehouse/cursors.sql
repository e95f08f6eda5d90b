-- Cursors and quarantine: how far a copy reaches, and which rows it could not store. See sql_files.py for the form.

-- name: read_event_cursors
-- Return a partner's cursors.
SELECT event_id, modified_after, removed_after, last_full_at, last_read_at,
coalesce(needs_full, {NEEDS_FULL}), registrations, included FROM event_cursors c WHERE timing_partner_id = :partner;

-- name: read_loaded_events
-- Return the events that were ever read in full, each with whether its last pass showed the end of the feed.
SELECT event_id, extract(epoch FROM last_read_at) - modified_after <= :overlap FROM event_cursors
WHERE timing_partner_id = :partner AND event_id = ANY (:'events'::bigint[]);

-- name: advance
-- Move the cursors of a pass's events to where its changes begin. The registrations of a full one are counted by `compare`.
INSERT INTO event_cursors AS c (timing_partner_id, event_id, race_id, modified_after, removed_after,
    first_loaded_at, last_full_at, last_read_at, read_number, full_read_number, included)
SELECT :partner, event_id, :race, :cursor, :cursor, now(), to_timestamp(:first),
    to_timestamp(:first), CASE WHEN :'full' OR :'removed' THEN :number ELSE 0 END,
    CASE WHEN :'full' AND :'shown' THEN :number ELSE 0 END, :'included'
FROM unnest(:'events'::bigint[]) AS e (event_id)
ON CONFLICT (timing_partner_id, event_id) DO UPDATE SET race_id = excluded.race_id,
    -- A second earlier at the least, by which loaded_events tells what was not shown.
    modified_after = CASE WHEN :'shown' THEN excluded.modified_after
        ELSE least(c.modified_after, excluded.modified_after - 1) END,
    last_read_at = excluded.last_read_at,
    removed_after = CASE WHEN :'removed' THEN excluded.removed_after ELSE c.removed_after END,
    last_full_at = CASE WHEN :'full' THEN excluded.last_full_at ELSE c.last_full_at END,
    needs_full = CASE WHEN NOT :'full' THEN c.needs_full END,
    read_number = greatest(c.read_number, excluded.read_number),
    full_read_number = greatest(c.full_read_number, excluded.full_read_number),
    included = CASE WHEN :'full' THEN excluded.included ELSE c.included END;

-- name: quarantine
-- Record rows that could not be stored as sent, and count those that were not quarantined before.
WITH rows AS MATERIALIZED (
    SELECT * FROM unnest(:'registrations'::bigint[], :'stored'::boolean[], :'reasons'::text[], :'digests'::text[],
        :'texts'::text[]) AS r (registration_id, is_stored, reason, row_digest, row_text)
),
before AS (
    SELECT FROM quarantined_rows q JOIN rows r USING (row_digest)
    WHERE q.timing_partner_id = :partner AND q.race_id = :race
        -- What this transaction has just resolved is the row as it is merged, before its field errors are noted.
        AND (q.resolved_at IS NULL OR q.resolved_at = now())
),
written AS (
    INSERT INTO quarantined_rows AS q (timing_partner_id, race_id, registration_id, is_stored, reason,
        row_digest, row_text)
    SELECT :partner, :race, registration_id, is_stored, reason, row_digest, row_text FROM rows
    ON CONFLICT (timing_partner_id, race_id, row_digest) DO UPDATE
    SET last_seen_at = now(), resolved_at = NULL, is_stored = excluded.is_stored, reason = excluded.reason
    RETURNING 1
)
SELECT (SELECT count(*) FROM written) - (SELECT count(*) FROM before);

-- name: find_unfinished_pass
-- Return the pass that an earlier process left unfinished over these events, unless it is too old. A pass without a stored page
-- begins now.
SELECT feed, modified_after, first_page_at, coalesce(changes_from, first_page_at), after_registration_id, pages, is_last_short, read_number
FROM read_passes
WHERE timing_partner_id = :partner AND race_id = :race AND mode = :'mode' AND event_ids = :'events'::bigint[]
    AND included = :'included' AND pages > 0
    AND started_at BETWEEN now() - :'within'::interval AND now() + :'ahead'::interval;
