-- Alerts as they are stored. See sql_files.py for the form.

-- name: record_problems
-- Open an alert for each problem, in their order, or note that it was found again.
INSERT INTO alerts AS a (kind, cause, partner, sentence, run_id, first_seen_at, last_seen_at)
SELECT p.kind, p.cause, p.partner, p.sentence, p.run_id, :'now'::timestamptz, :'now'::timestamptz
FROM unnest(:'kinds'::text[], :'causes'::text[], :'partner_keys'::text[], :'sentences'::text[], :'runs'::text[])
    WITH ORDINALITY AS p (kind, cause, partner, sentence, run_id, place)
ORDER BY p.place
ON CONFLICT (kind, cause) WHERE cleared_at IS NULL DO UPDATE
SET partner = excluded.partner, sentence = excluded.sentence, run_id = excluded.run_id,
    last_seen_at = excluded.last_seen_at, looks_missed = 0;
