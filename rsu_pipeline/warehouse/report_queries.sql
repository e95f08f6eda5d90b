-- Queries of the reports. See sql_files.py for the form.

-- name: read_registrations
-- Return the active registrations of a partner's upcoming events, without those of volunteers.
SELECT p.registration_id, p.event_id, coalesce(r.name, '') AS race, coalesce(e.name, '') AS event,
    (p.registration_date AT TIME ZONE 'America/New_York' AT TIME ZONE :'zone')::date AS registered_on,
    (p.first_seen_at AT TIME ZONE :'zone')::date AS first_seen_on,
    p.first_bib IS NOT NULL AS came_with_bib, rsu_bib(p.bib_num, p.team_info) IS NOT NULL AS has_bib,
    CASE WHEN jsonb_typeof(p.payment_info -> 'amount_paid') = 'number'
        THEN (p.payment_info ->> 'amount_paid')::float END AS amount_paid
FROM future_events f
JOIN runsignup_events e USING (event_id)
JOIN runsignup_races r ON r.race_id = e.race_id
JOIN runsignup_participants p ON p.event_id = f.event_id AND p.timing_partner_id = f.timing_partner_id
WHERE f.timing_partner_id = :partner AND p.removed_at IS NULL AND e.volunteer IS NOT TRUE
ORDER BY e.starts_at NULLS LAST, p.event_id, p.registration_id;

-- name: read_bib_changes
-- Return the bibs set and cleared of those registrations: id, day, and 1 or -1.
SELECT b.registration_id, (coalesce(to_timestamp(b.modified_epoch), b.recorded_at) AT TIME ZONE :'zone')::date AS day,
    CASE b.kind WHEN 'assigned' THEN 1 ELSE -1 END AS change
FROM future_events f
JOIN runsignup_participants p ON p.event_id = f.event_id AND p.timing_partner_id = f.timing_partner_id
JOIN runsignup_bib_changes b
    ON b.timing_partner_id = p.timing_partner_id AND b.registration_id = p.registration_id
WHERE f.timing_partner_id = :partner AND p.removed_at IS NULL AND b.kind IN ('assigned', 'cleared')
ORDER BY b.bib_change_id;
