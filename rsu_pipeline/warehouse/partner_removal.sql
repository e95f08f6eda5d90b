-- Moving a race from one partner to another. What depends on the columns is in partner_removal.py. See sql_files.py for the form.

-- name: link_race
-- Give the target the race of the source.
INSERT INTO partner_races (timing_partner_id, race_id, listed_at, access, access_changed_at)
SELECT :target, race_id, listed_at, access, access_changed_at FROM partner_races
WHERE timing_partner_id = :source AND race_id = :race
ON CONFLICT DO NOTHING;

-- name: keep_local_bibs
-- Keep bibs that were given here to registrations that the target has without one.
UPDATE runsignup_participants t SET local_bib = s.local_bib
FROM runsignup_participants s
WHERE s.timing_partner_id = :source AND s.race_id = :race AND s.local_bib IS NOT NULL
    AND t.timing_partner_id = :target AND t.registration_id = s.registration_id AND t.local_bib IS NULL;

-- name: copy_cursors
-- Copy how far the copy of the race's events reaches.
INSERT INTO event_cursors (timing_partner_id, event_id, race_id, modified_after, removed_after, first_loaded_at, last_full_at,
    last_read_at, registrations, needs_full)
SELECT :target, event_id, race_id, modified_after, removed_after, first_loaded_at, last_full_at, last_read_at, registrations,
    needs_full
FROM event_cursors WHERE timing_partner_id = :source AND race_id = :race
ON CONFLICT DO NOTHING;

-- name: copy_history_events
-- Copy which past events were loaded.
INSERT INTO history_events SELECT (jsonb_populate_record(h, jsonb_build_object('timing_partner_id', :target::integer))).*
FROM history_events h JOIN runsignup_events e USING (event_id)
WHERE h.timing_partner_id = :source AND e.race_id = :race
ON CONFLICT DO NOTHING;

-- name: copy_history_races
-- Copy how far the backfill of the race is.
INSERT INTO history_races SELECT (jsonb_populate_record(h, jsonb_build_object('timing_partner_id', :target::integer))).*
FROM history_races h WHERE h.timing_partner_id = :source AND h.race_id = :race
ON CONFLICT DO NOTHING;
