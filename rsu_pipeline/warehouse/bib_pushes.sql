-- Bibs given here that are sent to RunSignup. See sql_files.py for the form.

-- name: find_events
-- Find an event with the partners that can read it.
SELECT t.timing_partner_id, coalesce(t.partition_key, t.timing_partner_id::text), e.race_id, r.name, e.event_id, e.name,
    a.allowed_at, a.allowed_by
FROM runsignup_events e
JOIN runsignup_races r ON r.race_id = e.race_id
JOIN partner_races l ON l.race_id = e.race_id
JOIN timing_partners t ON t.timing_partner_id = l.timing_partner_id
LEFT JOIN bib_push_events a ON a.timing_partner_id = l.timing_partner_id AND a.event_id = e.event_id
WHERE e.event_id = :event AND (:partner::integer IS NULL OR t.timing_partner_id = :partner)
    AND l.access = 'granted' AND e.gone_at IS NULL AND t.disabled_at IS NULL
ORDER BY t.timing_partner_id;

-- name: list_allowed
-- List the events whose bibs may be sent.
SELECT t.timing_partner_id, coalesce(t.partition_key, t.timing_partner_id::text), e.race_id, r.name, e.event_id, e.name,
    a.allowed_at, a.allowed_by
FROM bib_push_events a
JOIN timing_partners t ON t.timing_partner_id = a.timing_partner_id
JOIN runsignup_events e ON e.event_id = a.event_id
JOIN runsignup_races r ON r.race_id = e.race_id
ORDER BY t.timing_partner_id, e.starts_at NULLS LAST, e.event_id;

-- name: read_bibs
-- Read the bibs of an event's registrations.
SELECT p.registration_id, concat_ws(' ', p.first_name, p.last_name),
    CASE WHEN p.removed_at IS NULL THEN rsu_bib(p.bib_num, p.team_info) END,
    nullif(btrim(p.local_bib, E' \t\r\n'), ''), p.removed_at IS NULL
FROM runsignup_participants p
WHERE p.timing_partner_id + 0 = :partner AND p.event_id = :event
    AND (nullif(btrim(p.local_bib, E' \t\r\n'), '') IS NOT NULL
        OR p.removed_at IS NULL AND rsu_bib(p.bib_num, p.team_info) IS NOT NULL);

-- name: record_pushes
-- Record bibs that are about to be sent. One that was sent before and never seen is sent again as the same push.
INSERT INTO bib_pushes AS u (timing_partner_id, race_id, event_id, registration_id, bib, sent_by, run_id)
SELECT :partner, :race, :event, s.registration_id, s.bib, :'who', :'run'
FROM unnest(:'registrations'::bigint[], :'bibs'::text[]) AS s (registration_id, bib)
ON CONFLICT (timing_partner_id, registration_id, bib) WHERE outcome IS NULL DO UPDATE
SET attempts = u.attempts + 1, sent_at = excluded.sent_at, sent_by = excluded.sent_by, run_id = excluded.run_id, answer = NULL;

-- name: settle
-- Settle pushes that had no effect.
UPDATE bib_pushes u SET settled_at = clock_timestamp(),
    outcome = CASE WHEN u.registration_id = ANY (:'refused'::bigint[]) THEN 'refused' ELSE 'overtaken' END
WHERE u.timing_partner_id = :partner AND u.event_id = :event AND u.outcome IS NULL
    AND (u.registration_id = ANY (:'refused'::bigint[]) OR NOT EXISTS (
        SELECT FROM runsignup_participants p
        WHERE p.timing_partner_id = :partner AND p.registration_id = u.registration_id AND p.event_id = u.event_id
            AND p.removed_at IS NULL));
