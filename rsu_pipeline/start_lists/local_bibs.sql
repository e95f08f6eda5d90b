-- Bibs given here. See sql_files.py for the form.

-- name: find_registrations
-- Find a registration as each partner has it. Which bib counts is decided by the view, as for every reader.
SELECT p.timing_partner_id, coalesce(t.partition_key, t.timing_partner_id::text), p.race_id, v.race, p.event_id, v.event,
    p.registration_id, coalesce(v.name, ''), p.removed_at IS NULL, nullif(btrim(p.local_bib, E' \t\r\n'), ''), v.bib, v.bib_source,
    s.event_id IS NOT NULL, coalesce(n.problems, '{}')
FROM timing_partners t
JOIN runsignup_participants p ON p.timing_partner_id = t.timing_partner_id
JOIN partner_entrants v ON v.timing_partner_id = p.timing_partner_id AND v.registration_id = p.registration_id
LEFT JOIN start_lists s ON s.timing_partner_id = p.timing_partner_id AND s.event_id = p.event_id
LEFT JOIN start_list_entries n ON n.timing_partner_id = p.timing_partner_id AND n.registration_id = p.registration_id
WHERE p.registration_id = :registration AND (:partner::integer IS NULL OR t.timing_partner_id = :partner)
ORDER BY p.timing_partner_id;

-- name: find_holders
-- Find the other entrants of an event that have a bib.
SELECT registration_id, coalesce(name, '') FROM partner_entrants
WHERE timing_partner_id + 0 = :partner AND event_id = :event AND status = 'active' AND bib = :'bib'
    AND registration_id <> :registration
ORDER BY registration_id;

-- name: set_local_bib
-- Set or clear the bib given here.
UPDATE runsignup_participants SET local_bib = :'bib' WHERE timing_partner_id = :partner AND registration_id = :registration;
