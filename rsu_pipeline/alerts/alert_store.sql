-- Alerts as they are stored. See sql_files.py for the form.

-- name: record_problem
-- Open an alert, or note that it was found again.
INSERT INTO alerts AS a (kind, cause, partner, sentence, run_id, first_seen_at, last_seen_at)
VALUES (:'kind', :'cause', :'partner_key', :'sentence', :'run', :'now'::timestamptz, :'now'::timestamptz)
ON CONFLICT (kind, cause) WHERE cleared_at IS NULL DO UPDATE
SET partner = excluded.partner, sentence = excluded.sentence, run_id = excluded.run_id,
    last_seen_at = excluded.last_seen_at, looks_missed = 0;
