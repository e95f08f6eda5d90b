-- Races and events as RunSignup lists them, and the access to them. The upsert is in events.py, because its table and columns vary. See sql_files.py for the form.

-- name: mark_vanished
-- Record a race's events that its detail lacks as gone, or as unsettled.
UPDATE runsignup_events
SET gone_at = CASE WHEN event_id = ANY (:'gone'::bigint[]) THEN :'now'::timestamptz ELSE gone_at END,
    vanished_at = CASE WHEN event_id = ANY (:'unsettled'::bigint[]) THEN coalesce(vanished_at, :'now'::timestamptz) END
WHERE race_id = :race
    AND (event_id = ANY (:'gone'::bigint[] || :'unsettled'::bigint[]) OR vanished_at IS NOT NULL);

-- name: set_access
-- Record RunSignup's answer for a race, unless it is known. A readable race is no longer lost.
UPDATE partner_races
SET access = :'access', access_changed_at = CASE WHEN access = :'access' THEN access_changed_at ELSE :'now'::timestamptz END,
    lost_at = CASE WHEN :'access' <> 'granted' THEN lost_at END,
    lost_reason = CASE WHEN :'access' <> 'granted' THEN lost_reason END
WHERE timing_partner_id = :partner AND race_id = :race
    AND (access <> :'access' OR (lost_at IS NOT NULL AND :'access' = 'granted'));

-- name: read_access_candidates
-- Return a partner's listed races that are not lost and have an event, each with the event that starts last.
SELECT DISTINCT ON (e.race_id) e.race_id, e.event_id, l.access = 'granted',
    {IS_UPCOMING}, e.starts_at
FROM partner_races l JOIN runsignup_events e USING (race_id)
WHERE l.timing_partner_id = :partner AND l.unlisted_at IS NULL AND l.lost_at IS NULL AND e.gone_at IS NULL
ORDER BY e.race_id, {ENDS_AT} DESC NULLS FIRST, e.event_id;

-- name: read_events
-- Return every event of a partner's races that RunSignup still has.
SELECT e.event_id, e.race_id, coalesce(r.name, ''), coalesce(e.name, ''), e.starts_at, e.ends_at,
    coalesce(e.volunteer, false), e.is_bundle, l.lost_at IS NOT NULL, x.refused_at, r.timezone
FROM partner_races l
JOIN runsignup_races r USING (race_id)
JOIN runsignup_events e USING (race_id)
LEFT JOIN refused_events x ON x.timing_partner_id = l.timing_partner_id AND x.event_id = e.event_id
WHERE l.timing_partner_id = :partner AND e.gone_at IS NULL
ORDER BY e.starts_at NULLS FIRST, e.race_id, e.event_id;
