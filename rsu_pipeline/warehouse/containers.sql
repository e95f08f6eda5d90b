-- Races and events that go away and come back. See sql_files.py for the form.

-- name: read_partner_races
-- Read the partner's access to these races.
SELECT l.race_id, l.access, l.access_changed_at, l.unlisted_at IS NULL,
    r.is_private_race IS FALSE AND r.is_draft_race IS FALSE,
    EXISTS (SELECT FROM runsignup_events e WHERE e.race_id = l.race_id AND e.gone_at IS NULL AND {IS_UPCOMING}),
    l.lost_reason
FROM partner_races l JOIN runsignup_races r USING (race_id)
WHERE l.timing_partner_id = :partner AND l.race_id = ANY (:'races'::bigint[])
ORDER BY l.race_id;

-- name: find_races_to_check
-- Find lost and unlisted races to request now, those with upcoming events first.
SELECT race_id, event_ids, is_lost, is_upcoming FROM (
    SELECT e.race_id, l.lost_at IS NOT NULL AS is_lost, bool_or({IS_UPCOMING}) AS is_upcoming, l.check_at,
        array_agg(e.event_id ORDER BY {ENDS_AT} DESC NULLS FIRST, e.event_id) AS event_ids
    FROM partner_races l JOIN runsignup_events e USING (race_id)
    WHERE l.timing_partner_id = :partner AND e.gone_at IS NULL
        AND (l.lost_at IS NOT NULL OR l.unlisted_at IS NOT NULL)
        AND coalesce(l.check_at <= :'now'::timestamptz, true)
    GROUP BY e.race_id, l.lost_at, l.check_at
) r
ORDER BY is_upcoming DESC, check_at NULLS FIRST, race_id;

-- name: of_partner
-- Fragment: the events of which the partner has registrations, or may have.
(
    SELECT event_id FROM event_cursors WHERE timing_partner_id = :partner
    UNION SELECT e.event_id FROM partner_races l JOIN runsignup_events e USING (race_id)
    WHERE l.timing_partner_id = :partner
);

-- name: find_races_to_settle
-- Find the races for which something below has to be done.
SELECT DISTINCT e.race_id
FROM {OF_PARTNER} k
JOIN runsignup_events e USING (event_id)
LEFT JOIN partner_races l ON l.timing_partner_id = :partner AND l.race_id = e.race_id
LEFT JOIN event_cursors c ON c.timing_partner_id = :partner AND c.event_id = e.event_id
WHERE (:'races'::bigint[] IS NULL OR e.race_id = ANY (:'races'::bigint[])) AND ({IS_BACK} OR {IS_TAKEN} AND (
    c.needs_full IS DISTINCT FROM :'awaits' AND c.event_id IS NOT NULL
    OR EXISTS (SELECT FROM future_events f WHERE f.timing_partner_id = :partner AND f.event_id = e.event_id)
    -- `+ 0` as in participants.note_missing.
    OR EXISTS (SELECT FROM runsignup_participants t
        WHERE t.timing_partner_id + 0 = :partner AND t.event_id = e.event_id AND t.removed_at IS NULL)))
ORDER BY 1;

-- name: remove_registrations
-- Mark the active registrations of gone events, or of a lost race, as removed.
WITH taken AS MATERIALIZED (
    SELECT k.event_id,
        CASE WHEN e.gone_at IS NOT NULL THEN 'event_deleted' ELSE coalesce(l.lost_reason, 'access_lost') END AS reason
    FROM {OF_PARTNER} k
    JOIN runsignup_events e USING (event_id)
    LEFT JOIN partner_races l ON l.timing_partner_id = :partner AND l.race_id = e.race_id
    WHERE e.race_id = :race AND {IS_TAKEN}
),
removed AS (
    UPDATE runsignup_participants t
    SET removed_at = :'now'::timestamptz, removed_reason = k.reason, removed_epoch = NULL, new_registration_id = NULL,
        changed_at = now(), fetched_date = now()
    FROM taken k
    -- `+ 0` as in participants.note_missing.
    WHERE t.timing_partner_id + 0 = :partner AND t.event_id = k.event_id AND t.removed_at IS NULL
    RETURNING 1
),
awaiting AS (
    -- Closing reads are owed again, too.
    UPDATE event_cursors c SET needs_full = :'awaits', last_full_at = to_timestamp(0), registrations = 0
    FROM taken k
    WHERE c.timing_partner_id = :partner AND c.event_id = k.event_id AND c.needs_full IS DISTINCT FROM :'awaits'
),
planned AS (
    DELETE FROM future_events f USING taken k WHERE f.timing_partner_id = :partner AND f.event_id = k.event_id
)
SELECT count(*) FROM removed;

-- name: restore_old
-- Activate the registrations of events that are back and too old to be read again.
WITH old AS MATERIALIZED (
    SELECT c.event_id
    FROM event_cursors c
    JOIN runsignup_events e USING (event_id)
    LEFT JOIN partner_races l ON l.timing_partner_id = :partner AND l.race_id = e.race_id
    WHERE c.timing_partner_id = :partner AND e.race_id = :race AND {IS_BACK}
),
restored AS (
    UPDATE runsignup_participants t
    SET removed_at = NULL, removed_reason = NULL, new_registration_id = NULL, changed_at = now(), fetched_date = now()
    FROM old o
    WHERE t.timing_partner_id + 0 = :partner AND t.event_id = o.event_id
        AND t.removed_reason IN ('event_deleted', 'race_deleted', 'access_lost')
    RETURNING 1
),
settled AS (
    UPDATE event_cursors c SET needs_full = NULL FROM old o
    WHERE c.timing_partner_id = :partner AND c.event_id = o.event_id
)
SELECT count(*) FROM restored;

-- name: link_transfers
-- Point registrations of deleted events to their successors.
-- Events that are gone come first, and registrations by their event, so that nothing is read where none is gone. Joined at once,
-- every registration of the hub was read, at each sync.
WITH gone AS MATERIALIZED (
    SELECT e.event_id, e.race_id, (
        SELECT max(h.finished_at) FROM sync_history h
        WHERE h.timing_partner_id = :partner AND h.race_id = e.race_id AND h.status <> 'failed'
            AND e.event_id = ANY (h.event_ids)) AS last_read_at
    FROM runsignup_events e WHERE e.gone_at > :'since'::timestamptz
),
deleted AS MATERIALIZED (
    SELECT g.race_id, g.last_read_at, o.id, o.event_id, o.registration_id, o.user_id, o.first_name, o.last_name, o.dob
    FROM gone g CROSS JOIN LATERAL (
        SELECT * FROM runsignup_participants p
        WHERE p.timing_partner_id + 0 = :partner AND p.event_id = g.event_id
            AND p.removed_reason = 'event_deleted' AND p.new_registration_id IS NULL OFFSET 0) o
),
others AS MATERIALIZED (
    SELECT e.race_id, n.event_id, n.registration_id, n.user_id, n.first_name, n.last_name, n.dob, n.first_seen_at
    FROM (SELECT DISTINCT race_id FROM deleted) d JOIN runsignup_events e USING (race_id) CROSS JOIN LATERAL (
        SELECT * FROM runsignup_participants p
        WHERE p.timing_partner_id + 0 = :partner AND p.event_id = e.event_id AND p.removed_at IS NULL OFFSET 0) n
),
successors AS (
    SELECT o.id, min(n.registration_id) AS registration_id
    FROM deleted o JOIN others n ON n.race_id = o.race_id AND n.user_id = o.user_id AND n.event_id <> o.event_id
        AND n.registration_id > o.registration_id AND n.first_seen_at > o.last_read_at
        AND (n.first_name, n.last_name, n.dob) IS NOT DISTINCT FROM (o.first_name, o.last_name, o.dob)
    GROUP BY o.id
    HAVING count(*) = 1
)
UPDATE runsignup_participants t SET new_registration_id = s.registration_id, changed_at = now(), fetched_date = now()
FROM successors s WHERE t.id = s.id;

-- name: settle_owners
-- Set the owner of the partner's races and their events to the partner that can read them now.
WITH wrong AS MATERIALIZED (
    SELECT r.race_id, o.timing_partner_id
    FROM runsignup_races r JOIN race_owners o USING (race_id)
    WHERE r.race_id IN (SELECT l.race_id FROM partner_races l WHERE l.timing_partner_id = :partner)
        AND (r.timing_partner_id IS DISTINCT FROM o.timing_partner_id OR EXISTS (
            SELECT FROM runsignup_events e
            WHERE e.race_id = r.race_id AND e.timing_partner_id IS DISTINCT FROM o.timing_partner_id))
    ORDER BY r.race_id
    FOR UPDATE OF r SKIP LOCKED
),
races AS (
    UPDATE runsignup_races r SET timing_partner_id = w.timing_partner_id FROM wrong w
    WHERE r.race_id = w.race_id AND r.timing_partner_id IS DISTINCT FROM w.timing_partner_id
)
UPDATE runsignup_events e SET timing_partner_id = w.timing_partner_id FROM wrong w
WHERE e.race_id = w.race_id AND e.timing_partner_id IS DISTINCT FROM w.timing_partner_id;
