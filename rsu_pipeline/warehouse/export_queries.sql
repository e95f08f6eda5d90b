-- What `rsu export` reads. See sql_files.py for the form.

-- name: read_events
-- Return one wide row for each event, without contact data.
SELECT t.timing_partner_id, t.company_name AS partner, e.race_id, r.name AS race, e.event_id, e.name AS event, e.event_type,
    e.distance_text AS distance, e.starts_at, e.start_time AS start_local, e.ends_at, e.end_time AS end_local, r.timezone,
    r.address ->> 'city' AS city, r.address ->> 'state' AS state, r.address ->> 'country_code' AS country,
    e.registration_opens AS registration_opens_local, e.age_calc_base_date, e.volunteer, e.is_bundle,
    coalesce(n.active, 0) AS entrants, coalesce(n.removed, 0) AS removed, e.gone_at
FROM runsignup_events e
JOIN runsignup_races r ON r.race_id = e.race_id
JOIN partner_races l ON l.race_id = e.race_id
JOIN timing_partners t ON t.timing_partner_id = l.timing_partner_id
LEFT JOIN race_owners o ON o.race_id = e.race_id
LEFT JOIN (SELECT timing_partner_id, event_id, count(*) FILTER (WHERE removed_at IS NULL) AS active,
        count(removed_at) AS removed
    FROM runsignup_participants GROUP BY timing_partner_id, event_id) n
    ON n.timing_partner_id = l.timing_partner_id AND n.event_id = e.event_id
WHERE l.timing_partner_id = coalesce(:partner, {OWNED}) AND (:race IS NULL OR e.race_id = :race)
    AND (:'since'::timestamptz IS NULL OR e.fetched_date >= :'since'::timestamptz AT TIME ZONE 'UTC')
ORDER BY e.starts_at NULLS LAST, e.event_id;

-- name: read_bib_changes
-- Return one wide row for each change of a bib.
SELECT b.bib_change_id, b.timing_partner_id, t.company_name AS partner, b.race_id, r.name AS race, b.event_id, e.name AS event,
    b.registration_id, p.first_name, p.last_name, b.kind, b.old_bib, b.new_bib, b.source,
    to_timestamp(b.modified_epoch) AS modified_at,
    b.first_seen_new AS seen_at, b.recorded_at
FROM runsignup_bib_changes b
JOIN timing_partners t ON t.timing_partner_id = b.timing_partner_id
LEFT JOIN runsignup_races r ON r.race_id = b.race_id
LEFT JOIN runsignup_events e ON e.event_id = b.event_id
LEFT JOIN runsignup_participants p ON p.timing_partner_id = b.timing_partner_id AND p.registration_id = b.registration_id
LEFT JOIN race_owners o ON o.race_id = b.race_id
WHERE b.timing_partner_id = coalesce(:partner, {OWNED}, b.timing_partner_id)
    AND (:race IS NULL OR b.race_id = :race) AND (:'since'::timestamptz IS NULL OR b.recorded_at >= :'since'::timestamptz)
ORDER BY b.bib_change_id;
